//! Makes the sources of this crate from those of barfs-replication: see `src/lib.rs`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

include!("defects.rs");

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let sources = manifest.join("../../src");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed={}", sources.display());
    println!("cargo:rerun-if-changed=defects.rs");
    let target = out.join("replication");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    let mut applied = Vec::new();
    copy(&sources, Path::new(""), &target, &mut applied)?;
    let text = format!(
        "/// The defects whose lines were found.\npub const APPLIED: &[usize] = &{applied:?};\n"
    );
    fs::write(out.join("applied.rs"), text)?;
    Ok(())
}

fn copy(
    sources: &Path,
    below: &Path,
    target: &Path,
    applied: &mut Vec<usize>,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(target.join(below))?;
    for entry in fs::read_dir(sources.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(sources, &name, target, applied)?;
            continue;
        }
        let text = fs::read_to_string(entry.path())?;
        let text = change(&name, text, applied);
        fs::write(target.join(&name), open(&name, &text))?;
    }
    Ok(())
}

/// Puts in the defects of one file.
fn change(name: &Path, mut text: String, applied: &mut Vec<usize>) -> String {
    for (place, defect) in DEFECTS.iter().enumerate() {
        if Path::new(defect.file) == name && text.matches(defect.from).count() == 1 {
            let to = defect.to.replace("$on", &format!("crate::is_on({place})"));
            text = text.replace(defect.from, &to);
            applied.push(place);
        }
    }
    text
}

/// Makes everything public. The root's inner attributes and documentation cannot be included, so they go.
fn open(name: &Path, text: &str) -> String {
    let is_root = name == Path::new("lib.rs");
    let mut inside_attribute = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        if is_root && (inside_attribute || trimmed.starts_with("#![") || trimmed.starts_with("//!"))
        {
            inside_attribute =
                (inside_attribute || trimmed.starts_with("#![")) && !line.ends_with(")]");
            continue;
        }
        let line = line
            .replace("pub(crate)", "pub")
            .replace("pub(super)", "pub");
        let is_module = line.starts_with("mod ") && line.ends_with(';');
        lines.push(match is_module {
            true => format!("pub {line}"),
            false => line,
        });
    }
    let text = lines.join("\n") + "\n";
    // A block without a signature, and graphs that can be copied: for those who exhaust the rules, never for a group.
    let mut text = text.replace("    fn assemble(", "    pub fn assemble(");
    for name in ["Dag", "Held"] {
        let (plain, copied) = (format!("pub struct {name} {{"), "#[derive(Clone)]\n");
        if !text.contains(&format!("{copied}{plain}")) {
            text = text.replace(&plain, &format!("{copied}{plain}"));
        }
    }
    text
}
