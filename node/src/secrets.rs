//! Where passphrases and recovery phrases come from: a file, systemd's credential directory, or a prompt.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use barfs_crypto::RecoverySecret;

use crate::exit::{During, Exit, Failure, Outcome};

fn from_file(path: &Path) -> Outcome<String> {
    let text = std::fs::read_to_string(path)
        .during(Exit::NotFound, format!("cannot read {}", path.display()))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn credential(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    path.is_file().then_some(path)
}

fn prompt(question: &str, option: &str) -> Outcome<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            format!("there is no terminal to ask for it: give {option}"),
        ));
    }
    rpassword::prompt_password(question).during(Exit::Failed, "cannot read from the terminal")
}

/// The passphrase of an existing key file.
pub fn passphrase(file: Option<&Path>) -> Outcome<String> {
    match file
        .map(Path::to_owned)
        .or_else(|| credential("barfs.passphrase"))
    {
        Some(path) => from_file(&path),
        None => prompt("Passphrase: ", "--passphrase-file FILE"),
    }
}

/// A new passphrase, asked for twice.
pub fn new_passphrase(file: Option<&Path>) -> Outcome<String> {
    let passphrase = match file
        .map(Path::to_owned)
        .or_else(|| credential("barfs.passphrase"))
    {
        Some(path) => from_file(&path)?,
        None => {
            let first = prompt("New passphrase for this device: ", "--passphrase-file FILE")?;
            if first != prompt("The same again: ", "--passphrase-file FILE")? {
                return Err(Failure::new(
                    Exit::Usage,
                    "the two passphrases differ: nothing was changed, try again",
                ));
            }
            first
        }
    };
    if passphrase.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "an empty passphrase protects nothing: choose another",
        ));
    }
    Ok(passphrase)
}

/// The 24 words of a member.
pub fn phrase(file: Option<&Path>) -> Outcome<RecoverySecret> {
    let words = match file
        .map(Path::to_owned)
        .or_else(|| credential("barfs.phrase"))
    {
        Some(path) => from_file(&path)?,
        None => prompt(
            "The 24 words of your recovery phrase: ",
            "--phrase-file FILE",
        )?,
    };
    RecoverySecret::from_words(&words).during(Exit::WrongPhrase, "this is not a recovery phrase")
}
