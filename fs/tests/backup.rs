//! Backup and restore without the kernel: what comes back is what was there, and what did not change is not read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use barfs_fs::*;
use rig::{Mount, shell};
use support::*;

/// A tree with one of everything.
fn furnish(at: &Path) {
    fs::create_dir_all(at.join("a/b/empty")).unwrap();
    fs::write(at.join("a/big"), noise(9 << 20, 1)).unwrap();
    fs::write(at.join("a/text"), "text ".repeat(50_000)).unwrap();
    for n in 0..60u64 {
        fs::write(at.join(format!("a/b/f{n}")), noise(1 + n as usize * 997, n)).unwrap();
    }
    shell(
        at,
        "ln a/text a/b/twin; ln -s ../text a/link; ln -s /nowhere a/dangling; mkfifo a/pipe; mknod a/null c 1 3; \
         truncate -s 200M a/sparse; printf x | dd of=a/sparse bs=1 seek=150000000 conv=notrunc status=none; \
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"a/socket\")'; \
         chown 12:34 a/big; chmod 4711 a/big; chmod 2770 a/b; chown -h 56:78 a/link; \
         setfattr -n user.note -v hello a/text; setfattr -n trusted.x -v y a/b; setfacl -m u:daemon:r a/text; \
         setfacl -d -m g:daemon:rx a/b; touch -d '1999-01-02 03:04:05.678901234' a/text; touch -h -d 2001-01-01 a/link; \
         : > \"a/odd name $(printf '\\377')\"; touch -d '2000-01-01 12:00' a/b a",
    );
}

fn differences(from: &Path, to: &Path) -> String {
    let script = format!(
        "rsync -aHAXSn --delete --checksum --itemize-changes '{}/' '{}/'",
        from.display(),
        to.display()
    );
    shell(Path::new("/"), &script)
}

fn backup(volume: &Volume, path: &Path, options: &BackupOptions) -> BackupReport {
    volume
        .backup(&[path.to_path_buf()], options, &mut |_| true)
        .unwrap()
}

fn restore(volume: &Volume, snapshot: &Snapshot, path: &[u8], to: &Path) -> RestoreReport {
    let options = RestoreOptions::default();
    volume
        .restore(snapshot, &[path.to_vec()], to, &options, &mut |_| true)
        .unwrap()
}

fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

#[test]
fn everything_comes_back_as_it_was_on_another_machine() {
    let rig = Rig::default();
    let source = rig.dir.path().join("source");
    furnish(&source);
    let volume = rig.open();
    let mut last = BackupProgress::default();
    let options = BackupOptions {
        name: Some("first".into()),
        ..BackupOptions::default()
    };
    let mut progress = |told: &BackupProgress| {
        last = told.clone();
        true
    };
    let report = volume
        .backup(std::slice::from_ref(&source), &options, &mut progress)
        .unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(
        (report.files_new, report.files_unchanged, report.others),
        (64 + 1, 0, 5)
    );
    assert!(
        report.bytes_read < 20 << 20,
        "holes are not read: {}",
        report.bytes_read
    );
    assert!(last.scanned && last.uploading.is_some());
    assert_eq!(report.snapshot.as_ref().unwrap().name, "first");
    volume.close().unwrap();

    let other = rig.elsewhere();
    let volume = other.open();
    let snapshot = volume.snapshot("first").unwrap();
    let target = other.dir.path().join("restored");
    let (mut told, mut last) = (0, RestoreProgress::default());
    let options = RestoreOptions::default();
    let mut progress = |step: &RestoreProgress| {
        assert!(step.scanned || step.bytes_done == 0, "{step:?}");
        (told, last) = (told + 1, step.clone());
        true
    };
    let report = volume
        .restore(
            &snapshot,
            &[bytes_of(&source)],
            &target,
            &options,
            &mut progress,
        )
        .unwrap();
    assert_eq!(
        (last.bytes_done, last.files_done),
        (last.bytes_total, last.files_total),
        "the totals were known before anything was written"
    );
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(report.verified >= 64 && told > 70, "{report:?}");
    let back = target.join(source.strip_prefix("/").unwrap());
    assert_eq!(differences(&source, &back), "");
    let sparse = fs::metadata(back.join("a/sparse")).unwrap();
    assert!(
        sparse.len() == 200 << 20 && sparse.blocks() * 512 < 3 << 20,
        "sparse files stay sparse"
    );
    assert_eq!(
        fs::metadata(back.join("a/b/twin")).unwrap().ino(),
        fs::metadata(back.join("a/text")).unwrap().ino()
    );
    let again = volume
        .restore(
            &snapshot,
            &[bytes_of(&source)],
            &target,
            &options,
            &mut |_| true,
        )
        .unwrap();
    assert_eq!((again.files, again.bytes), (0, 0), "what is there is left");
    assert!(
        volume
            .restore(
                &snapshot,
                &[b"/none".to_vec()],
                &target,
                &options,
                &mut |_| true
            )
            .is_err()
    );
}

#[test]
fn a_second_backup_reads_only_what_changed_and_forgets_what_is_gone() {
    let rig = Rig::default();
    let source = rig.dir.path().join("source");
    furnish(&source);
    let volume = rig.open();
    let first = backup(&volume, &source, &BackupOptions::default());
    let placed = volume.status().pack_bytes_written;
    let second = backup(&volume, &source, &BackupOptions::default());
    assert_eq!(
        (
            second.files_unchanged,
            second.files_new,
            second.files_changed
        ),
        (first.files_new, 0, 0)
    );
    assert_eq!((second.bytes_read, second.removed), (0, 0));
    assert!(volume.status().pack_bytes_written - placed < 1 << 20);
    fs::write(source.join("a/b/f7"), b"changed").unwrap();
    fs::remove_file(source.join("a/b/f8")).unwrap();
    fs::write(source.join("a/b/new"), b"new").unwrap();
    shell(
        &source,
        "rm -r a/b/empty; mv a/big a/moved; rm a/pipe; mkdir a/pipe; touch a/pipe/in; chmod 600 a/b/f9",
    );
    let dry = backup(
        &volume,
        &source,
        &BackupOptions {
            dry_run: true,
            ..BackupOptions::default()
        },
    );
    assert!(dry.snapshot.is_none());
    let third = backup(&volume, &source, &BackupOptions::default());
    for report in [&dry, &third] {
        assert_eq!(
            (report.files_new, report.files_changed),
            (3, 2),
            "{report:?}"
        );
        assert!(report.removed >= 3, "{report:?}");
    }
    assert!(
        third.bytes_known >= 9 << 20,
        "the moved file is known by its chunks: {third:?}"
    );
    let target = rig.dir.path().join("restored");
    restore(
        &volume,
        third.snapshot.as_ref().unwrap(),
        &bytes_of(&source),
        &target,
    );
    assert_eq!(
        differences(&source, &target.join(source.strip_prefix("/").unwrap())),
        ""
    );
    let old = rig.dir.path().join("old");
    restore(
        &volume,
        first.snapshot.as_ref().unwrap(),
        &bytes_of(&source),
        &old,
    );
    let old = old.join(source.strip_prefix("/").unwrap());
    assert!(
        old.join("a/b/f8").exists() && old.join("a/big").exists() && !old.join("a/moved").exists()
    );
    assert!(fs::symlink_metadata(old.join("a/b/f9")).unwrap().mode() & 0o777 != 0o600);
}

#[test]
fn patterns_and_rules_leave_things_out() {
    let rig = Rig::default();
    let source = rig.dir.path().join("source");
    fs::create_dir_all(source.join("keep/target")).unwrap();
    fs::create_dir_all(source.join("cache")).unwrap();
    for name in [
        "a.o",
        "a.c",
        "keep/b.o",
        "keep/important.o",
        "keep/target/x",
        "cache/x",
    ] {
        fs::write(source.join(name), name).unwrap();
    }
    fs::write(
        source.join("cache/CACHEDIR.TAG"),
        "Signature: 8a477f597d28d172789f06886806bc55\n",
    )
    .unwrap();
    let list = rig.dir.path().join("patterns");
    fs::write(&list, "target/\n!important.o\n").unwrap();
    let volume = rig.open();
    let options = BackupOptions {
        into: b"/machines/one".to_vec(),
        exclude: vec!["*.o".into()],
        exclude_from: vec![list],
        exclude_caches: true,
        ..BackupOptions::default()
    };
    let report = backup(&volume, &source, &options);
    assert!(report.excluded >= 3, "{report:?}");
    let at = volume
        .resolve(&[b"/machines/one".to_vec(), bytes_of(&source)].concat())
        .unwrap();
    assert_eq!(names(&volume, at), ["a.c", "cache", "keep"]);
    assert_eq!(
        names(&volume, volume.lookup(at, b"keep").unwrap().ino),
        ["important.o"]
    );
    assert_eq!(
        names(&volume, volume.lookup(at, b"cache").unwrap().ino),
        ["CACHEDIR.TAG"]
    );
    let bad = BackupOptions {
        exclude: vec!["[z-a]".into()],
        ..BackupOptions::default()
    };
    assert!(
        volume
            .backup(std::slice::from_ref(&source), &bad, &mut |_| true)
            .is_err()
    );
    assert!(
        volume
            .backup(&[PathBuf::from("relative")], &options, &mut |_| true)
            .is_err()
    );
    let gone = backup(&volume, &source.join("none"), &options);
    assert_eq!(gone.problems.len(), 1);
}

#[test]
fn an_interrupted_backup_goes_on_where_it_was() {
    let rig = Rig::default();
    let source = rig.dir.path().join("source");
    furnish(&source);
    let volume = rig.open();
    let mut calls = 0;
    let stopped = volume.backup(
        std::slice::from_ref(&source),
        &BackupOptions::default(),
        &mut |_| {
            calls += 1;
            calls < 40
        },
    );
    assert!(matches!(stopped, Err(VolumeError::Cancelled { .. })));
    volume.sync(Rung::Local, &mut |_| ()).unwrap();
    let rig = rig.crash(0);
    vanish(volume);
    let volume = rig.open();
    let report = backup(&volume, &source, &BackupOptions::default());
    assert!(
        report.files_unchanged > 10 && report.files_new > 10,
        "{report:?}"
    );
    let target = rig.dir.path().join("restored");
    restore(
        &volume,
        report.snapshot.as_ref().unwrap(),
        &bytes_of(&source),
        &target,
    );
    assert_eq!(
        differences(&source, &target.join(source.strip_prefix("/").unwrap())),
        ""
    );
}

#[test]
fn a_backup_into_a_mounted_volume_shows_at_once() {
    let mount = Mount::new();
    let source = mount.rig.dir.path().join("source");
    fs::create_dir_all(source.join("d")).unwrap();
    fs::write(source.join("d/f"), "one").unwrap();
    let below = source.strip_prefix("/").unwrap().display().to_string();
    let seen = |mount: &Mount| {
        shell(
            &mount.at(""),
            &format!("cat {below}/d/f 2>/dev/null || echo none"),
        )
    };
    assert_eq!(seen(&mount), "none\n", "the kernel remembers that");
    backup(&mount.volume, &source, &BackupOptions::default());
    assert_eq!(seen(&mount), "one");
    fs::write(source.join("d/f"), "second").unwrap();
    backup(&mount.volume, &source, &BackupOptions::default());
    assert_eq!(seen(&mount), "second");
    fs::remove_file(source.join("d/f")).unwrap();
    backup(&mount.volume, &source, &BackupOptions::default());
    assert_eq!(seen(&mount), "none\n");
    assert_eq!(
        shell(
            &mount.at(""),
            &format!("getfattr -d -m - {below}/d | wc -l")
        ),
        "0\n"
    );
}

#[test]
fn restoring_spares_or_replaces_what_is_there_as_told() {
    let rig = Rig::default();
    let volume = rig.open();
    write_file(&volume, ROOT, "f", b"from the volume");
    let snapshot = volume.snapshot_create(None, &mut |_| ()).unwrap();
    let target = rig.dir.path().join("t");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("f"), b"mine").unwrap();
    let run = |overwrite, dry_run| {
        let options = RestoreOptions {
            overwrite,
            dry_run,
            ..RestoreOptions::default()
        };
        volume
            .restore(&snapshot, &[], &target, &options, &mut |_| true)
            .unwrap()
    };
    assert_eq!(run(Overwrite::Never, false).problems.len(), 1);
    assert_eq!(run(Overwrite::Always, true).files, 1);
    assert_eq!(fs::read(target.join("f")).unwrap(), b"mine");
    assert_eq!(run(Overwrite::Changed, false).files, 1);
    assert_eq!(fs::read(target.join("f")).unwrap(), b"from the volume");
    assert_eq!(run(Overwrite::Changed, false).files_unchanged, 1);
    rig.group.unreachable.store(true, Ordering::SeqCst);
    volume.drop_caches().unwrap();
    let options = RestoreOptions {
        overwrite: Overwrite::Always,
        ..RestoreOptions::default()
    };
    assert!(
        volume
            .restore(&snapshot, &[], &target, &options, &mut |_| true)
            .is_err()
    );
    assert_eq!(
        fs::read(target.join("f")).unwrap(),
        b"from the volume",
        "a failed restore leaves what was there"
    );
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}
