//! A volume's header: its master keys, sealed for the recovery key of the 24 words. The ledger keeps it.

use barfs_crypto::{MasterKeys, RecoverySecret};
use barfs_replication::VolumeId;

use crate::exit::{During, Exit, Failure, Outcome};
use crate::profile::random;
use crate::transport::protocol::VolumeState;

fn context(volume: &VolumeId) -> Vec<u8> {
    [b"barfs volume header v1 ", &volume.0[..]].concat()
}

/// Seals the keys of a volume.
pub fn seal(keys: &MasterKeys, secret: &RecoverySecret, volume: &VolumeId) -> Outcome<Vec<u8>> {
    Ok(keys.wrap(&secret.wrapping_key(), random()?, &context(volume)))
}

/// Opens the keys of a volume.
pub fn open(
    state: &VolumeState,
    secret: &RecoverySecret,
    volume: &VolumeId,
) -> Outcome<MasterKeys> {
    let doing = format!("the header of the volume {} does not open", state.name);
    MasterKeys::unwrap(&secret.wrapping_key(), &context(volume), &state.header)
        .during(Exit::Damaged, doing)
}

/// Fails if the group has newer keys of the volume than this device: what it wrote, nobody would read who recovers the
/// volume, and what others wrote it could not read itself.
pub fn check_known(state: &VolumeState, keys: &MasterKeys) -> Outcome<()> {
    match MasterKeys::count_wrapped(&state.header) {
        Some(count) if count == keys.count() => Ok(()),
        Some(count) if count > keys.count() => {
            let message = format!(
                "the keys of the volume {} were replaced on another device: run `barfs key update` here, with your 24 words",
                state.name
            );
            Err(Failure::new(Exit::OldKeys, message))
        }
        _ => {
            let message = format!(
                "the group's header of the volume {} is not the one of this device's keys: it is damaged or an old one; ask again when more members run",
                state.name
            );
            Err(Failure::new(Exit::Damaged, message))
        }
    }
}
