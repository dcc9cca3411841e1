//! Programs that people use, on a real mount while commits run, and what they made as another machine sees it.
//! A program that is not installed fails its test with the name of the package.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::fs;
use std::time::{Duration, Instant};

use barfs_fs::CheckOptions;
use barfs_fs::fuse::MountOptions;
use rig::{Mount, shell};
use support::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A mount whose commits come all the time.
fn busy_mount() -> Mount {
    let rig = Rig::default();
    let volume = rig.open_with(|options| {
        options.commit_interval = Duration::from_millis(200);
        options.commit_dirty_bytes = 4 << 20;
        // Commits are to come between what the programs do, however little of the processor they leave.
        options.give_way = false;
    });
    Mount::of(rig, volume, MountOptions::default())
}

fn need(program: &str, package: &str) {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|dir| dir.join(program).is_file());
    assert!(
        found,
        "{program} is not installed: packaging/build-deps.sh installs it (Debian package {package})"
    );
}

/// Everything under a directory that a program can see, times of access aside.
const FINGERPRINT: &str = "(find . -printf '%P %y %m %U %G %n %s %T@ %l\\n' | sed '/^ d/d; / d /s/ [0-9]* [0-9]* [0-9.]* $//'; \
     find . -type f -print0 | sort -z | xargs -0 -r md5sum) | sort";

/// The volume is sound, and another machine sees below `name` what this one does.
fn same_elsewhere(mount: Mount, name: &str) -> Mount {
    let here = shell(&mount.at(name), FINGERPRINT);
    let begun = Instant::now();
    while mount.volume.status().commits == 0 {
        assert!(begun.elapsed() < PATIENCE, "no commit runs beside programs");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mount = mount.elsewhere();
    let there = shell(&mount.at(name), FINGERPRINT);
    let differ = here.lines().zip(there.lines()).find(|(a, b)| a != b);
    assert!(here == there, "here and there: {differ:?}");
    let read_data = Some((1, 1));
    let report = mount
        .volume
        .check(&CheckOptions { read_data }, &mut |_| true);
    let report = report.unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    mount
}

#[test]
fn git_clones_commits_packs_checks_and_keeps_worktrees() {
    need("git", "git");
    let mount = busy_mount();
    shell(
        &mount.at(""),
        "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
         git config --global user.email a@b; git config --global user.name a; git config --global init.defaultBranch main
         git init -q repo; cd repo; mkdir -p a/b
         for i in $(seq 300); do seq $i $((i + 200)) > a/b/f$i; done; ln -s b/f1 a/l; git add .; git commit -qm one
         for n in $(seq 12); do date +%N > a/b/f$n; git mv a/b/f$((n + 100)) a/moved$n; git commit -qam step$n; done
         git worktree add -q ../tree -b side; cd ../tree; echo side > a/side; git add a; git commit -qm side
         cd ../repo; git merge -q side -m merged; git worktree list | grep -q tree
         git clone -q . ../clone; git clone -q --no-hardlinks --bare . ../bare.git
         git gc -q --aggressive --prune=now; git repack -adq; git fsck --full --strict
         git worktree remove ../tree; git stash list; git log --oneline | wc -l
         cd ../clone; git fsck --full --strict; [ -z \"$(git status --porcelain)\" ]; git checkout -q HEAD~5; git checkout -q main
         echo more > a/more; git add a; git commit -qm more; git push -q ../bare.git main; cd ../bare.git; git fsck --full --strict",
    );
    let mount = same_elsewhere(mount, "repo");
    let said = shell(
        &mount.at(""),
        "export HOME=$PWD; cd repo; git fsck --full --strict; git log --oneline | wc -l; git status --porcelain | wc -l",
    );
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["14", "0"]);
}

#[test]
fn sqlite_keeps_its_word_with_either_journal() {
    need("sqlite3", "sqlite3");
    let mount = busy_mount();
    for mode in ["delete", "truncate", "persist", "wal"] {
        let script = format!(
            "pragma journal_mode={mode}; pragma synchronous=full; create table t(a integer primary key, b blob);
             with recursive n(i) as (select 1 union all select i+1 from n where i<5000) insert into t select i, randomblob(300) from n;
             begin; delete from t where a % 3 = 0; rollback; delete from t where a % 5 = 0; create index i on t(b);"
        );
        let inserts: String = (0..60)
            .map(|n| format!("insert into t(b) values('row {n}');\n"))
            .collect();
        fs::write(mount.at("script.sql"), script + &inserts).unwrap();
        shell(
            &mount.at(""),
            &format!(
                "sqlite3 {mode}.db < script.sql; sqlite3 {mode}.db 'vacuum; pragma wal_checkpoint(truncate);'"
            ),
        );
    }
    // Readers beside a writer, in processes of their own.
    let said = shell(
        &mount.at(""),
        "for n in 1 2 3; do (for i in $(seq 25); do sqlite3 wal.db '.timeout 20000' \"insert into t(b) values('$n $i')\"; done) & done
         for i in $(seq 20); do sqlite3 wal.db '.timeout 20000' 'select count(*) from t' > /dev/null; done; wait
         for db in *.db; do sqlite3 $db 'pragma integrity_check; select count(*) from t'; done",
    );
    let counts: Vec<_> = said.split_whitespace().collect();
    assert_eq!(
        counts,
        ["ok", "4060", "ok", "4060", "ok", "4060", "ok", "4135"]
    );
    let mount = same_elsewhere(mount, "");
    assert_eq!(
        shell(
            &mount.at(""),
            "sqlite3 wal.db 'pragma integrity_check; pragma journal_mode'"
        ),
        "ok\nwal\n"
    );
}

/// A tree with everything that copying tools have to keep.
const TREE: &str = "mkdir -p src/d/deep src/empty; cd src
    for i in $(seq 120); do head -c $((i * 97)) /dev/urandom > d/f$i; done
    ln d/f1 hard; ln d/f1 d/deep/hard; ln -s d/f2 soft; ln -s /nowhere dangling; mkfifo pipe; mknod null c 1 3
    truncate -s 100M sparse; echo in the middle | dd of=sparse bs=1 seek=50000000 conv=notrunc status=none
    chown 1:2 d/f3; chmod 4755 d/f3; chmod 1777 d/deep; chmod 000 d/f4; touch -d '1969-07-20 20:17:40.123456789Z' d/f5
    touch -d '2106-02-07T06:28:15Z' d/f6; setfattr -n user.color -v blue d/f7; setfattr -n user.empty d/f7
    setfacl -m u:daemon:rw,g:bin:r d/f8; setfacl -d -m u:daemon:rwx d/deep; printf x > 'a name with spaces
and a line feed'";

#[test]
fn rsync_moves_nothing_the_second_time() {
    need("rsync", "rsync");
    need("setfacl", "acl");
    need("setfattr", "attr");
    let mount = busy_mount();
    let outside = tempfile::tempdir().unwrap();
    shell(outside.path(), TREE);
    let from = outside.path().join("src");
    let again = format!("rsync -aHAXS --itemize-changes {}/ copy", from.display());
    let first = shell(&mount.at(""), &again);
    assert!(first.lines().count() > 130, "{first}");
    assert_eq!(
        shell(&mount.at(""), &again),
        "",
        "the second time moves nothing"
    );
    // From the mount to itself, and back out: nothing differs either.
    shell(&mount.at(""), "rsync -aHAXS copy/ twin");
    assert_eq!(
        shell(
            &mount.at(""),
            "rsync -aHAXSn --itemize-changes --delete copy/ twin"
        ),
        ""
    );
    let mount = same_elsewhere(mount, "copy");
    assert_eq!(
        shell(
            &mount.at(""),
            &format!(
                "rsync -aHAXSn --checksum --itemize-changes --delete {}/ copy",
                from.display()
            )
        ),
        ""
    );
    assert!(
        shell(&mount.at(""), "stat -c %b copy/sparse")
            .trim()
            .parse::<u64>()
            .unwrap()
            < 200
    );
}

#[test]
fn tar_brings_back_owners_lists_and_holes() {
    need("tar", "tar");
    need("setfacl", "acl");
    need("setfattr", "attr");
    let mount = busy_mount();
    shell(&mount.at(""), TREE);
    shell(
        &mount.at(""),
        "tar --acls --xattrs --xattrs-include='*' -cSpf all.tar src; mkdir back
         tar --acls --xattrs --xattrs-include='*' --same-owner -xSpf all.tar -C back",
    );
    let seen = "find src -print0 | sort -z | xargs -0 getfacl -n 2>/dev/null | md5sum
        find src -print0 | sort -z | xargs -0 getfattr -hd -m- 2>/dev/null | grep -v barfs | md5sum
        cd src; ls -lanR --time-style=full-iso . | grep -v '^total' | awk '{$2=\"\"; print}' | grep -v '^d' | md5sum; stat -c '%h %b' d/f1 sparse";
    let (here, back) = (shell(&mount.at(""), seen), shell(&mount.at("back"), seen));
    assert_eq!(here, back);
    assert!(here.contains("3 ") && fs::metadata(mount.at("all.tar")).unwrap().len() < 4 << 20);
    same_elsewhere(mount, "back");
}

#[test]
fn cargo_builds_a_real_crate() {
    let cargo = env!("CARGO");
    let mount = busy_mount();
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    // Sources of a dependency of ours that has a build script and no dependencies.
    let found = shell(
        &mount.at(""),
        &format!(
            "'{cargo}' metadata --locked --offline --format-version 1 --filter-platform x86_64-unknown-linux-gnu --manifest-path '{manifest}' |
             grep -o '\"manifest_path\":\"[^\"]*/libc-0[^\"]*/Cargo.toml\"' | head -n 1 | cut -d'\"' -f4"
        ),
    );
    let source = found.trim().trim_end_matches("/Cargo.toml");
    assert!(!source.is_empty(), "cargo knows no sources of libc");
    let build = format!("cd libc; env -u CARGO_TARGET_DIR '{cargo}' build --offline -q");
    shell(
        &mount.at(""),
        &format!("cp -r '{source}' libc; rm -f libc/.cargo-ok libc/Cargo.*"),
    );
    // Its own manifest names packages that cargo would want to know of without needing them.
    let manifest = "[package]\nname = \"libc\"\nversion = \"0.2.0\"\nedition = \"2021\"\n[features]\ndefault = [\"std\"]\nstd = []\n[workspace]\n";
    fs::write(mount.at("libc/Cargo.toml"), manifest).unwrap();
    shell(
        &mount.at(""),
        &format!("{build}; ls target/debug/liblibc.rlib"),
    );
    let built = |mount: &Mount| shell(&mount.at("libc"), "stat -c %Y.%i target/debug/deps/*.rlib");
    let before = built(&mount);
    shell(&mount.at(""), &build);
    assert_eq!(
        before,
        built(&mount),
        "nothing changed, so nothing is built"
    );
    shell(
        &mount.at(""),
        &format!("sleep 1; touch libc/src/lib.rs; {build}"),
    );
    assert_ne!(before, built(&mount), "a changed file is noticed");
    same_elsewhere(mount, "libc");
}

#[test]
fn a_restic_repository_on_the_mount_checks_out() {
    need("restic", "restic");
    let mount = busy_mount();
    let outside = tempfile::tempdir().unwrap();
    shell(
        outside.path(),
        "mkdir data; for i in $(seq 80); do head -c $((i * 20000)) /dev/urandom > data/f$i; done; cp -r data more",
    );
    let from = outside.path().display();
    let restic = "export RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$PWD/cache; restic -q -r repo";
    shell(
        &mount.at(""),
        &format!(
            "{restic} init; restic -q -r repo backup {from}/data; restic -q -r repo backup {from}/more {from}/data
             restic -q -r repo check --read-data; restic -q -r repo forget --keep-last 1 --prune --group-by host
             restic -q -r repo check --read-data; restic -q -r repo restore latest --target back; diff -r {from}/data back{from}/data"
        ),
    );
    let mount = same_elsewhere(mount, "repo");
    shell(
        &mount.at(""),
        &format!(
            "{restic} check --read-data; restic -q -r repo restore latest --target again; diff -r {from}/more again{from}/more"
        ),
    );
}
