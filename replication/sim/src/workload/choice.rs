//! What a client does next, by what the ledger shows.
//!
//! Mostly what a sensible owner would do; now and then a mistake (a stale sequence, a wrong fencing number, a lease
//! that somebody else holds), so that refusals are ordered too.

use super::client::Client;
use super::{Views, packs};
use crate::oracle::Submission;
use crate::rng::Rng;
use barfs_crypto::{Digest, NodeId, SigningKey};
use barfs_replication::{Command, Ledger, SignedHome};

impl Client {
    /// Chooses what to do next by what the ledger shows.
    pub(super) fn act(
        &mut self,
        at: u64,
        ledger: &Ledger,
        views: &Views<'_>,
        home_is_up: bool,
        tickets: &mut u64,
    ) -> Vec<Submission> {
        if home_is_up && self.rng.per_mille(20) {
            let nonce = self.rng.bytes();
            let mark = self.hand_in_own(at, Command::ReadMark { nonce }, tickets);
            return mark.into_iter().collect();
        }
        if home_is_up && self.rng.per_mille(150) {
            let burst = if self.rng.per_mille(100) { 20 } else { 1 };
            let mut notes = Vec::new();
            for _ in 0..burst {
                let bytes = self
                    .rng
                    .bytes::<32>()
                    .repeat(self.rng.between(1, 8) as usize);
                notes.extend(self.hand_in_own(at, Command::Note { bytes }, tickets));
            }
            return notes;
        }
        let Some(device) = self.rng.pick(&self.devices).cloned() else {
            return Vec::new();
        };
        if ledger.device(device.id()).is_none() {
            return self
                .certify(at, device.id(), views, home_is_up, tickets)
                .into_iter()
                .collect();
        }
        let (signer, command) = match ledger.volume(&self.volume) {
            None => {
                let name = format!("volume of {}", self.member);
                let header = self.rng.bytes::<64>().to_vec();
                let (member, volume) = (self.member, self.volume);
                (
                    Some(&device),
                    Command::CreateVolume {
                        member,
                        volume,
                        name,
                        header,
                    },
                )
            }
            Some(_) => self.use_volume(ledger, &device),
        };
        let signer = signer.cloned();
        if matches!(command, Command::SetHead { .. }) && self.rng.per_mille(250) {
            return self.race(at, signer.as_ref(), command, views, tickets);
        }
        self.hand_in(at, signer.as_ref(), command, views, tickets)
            .into_iter()
            .collect()
    }

    fn certify(
        &mut self,
        at: u64,
        device: NodeId,
        views: &Views<'_>,
        home_is_up: bool,
        tickets: &mut u64,
    ) -> Option<Submission> {
        let command = Command::AddDevice {
            member: self.member,
            device,
            label: "laptop".into(),
        };
        if home_is_up && self.rng.per_mille(700) {
            self.hand_in_own(at, command, tickets)
        } else {
            self.hand_in(at, None, command, views, tickets)
        }
    }

    /// Two heads for one sequence, through two carriers: one must win.
    fn race(
        &mut self,
        at: u64,
        signer: Option<&SigningKey>,
        command: Command,
        views: &Views<'_>,
        tickets: &mut u64,
    ) -> Vec<Submission> {
        let Command::SetHead {
            volume,
            sequence,
            fencing,
            ..
        } = command
        else {
            return Vec::new();
        };
        let mut racers = Vec::new();
        for _ in 0..2 {
            let bytes = self.rng.bytes::<40>().to_vec();
            let head = Command::SetHead {
                volume,
                sequence,
                fencing,
                bytes,
            };
            racers.extend(self.hand_in(at, signer, head, views, tickets));
        }
        racers
    }

    /// A command on the volume, signed by the device or, without one, by the recovery key.
    fn use_volume<'a>(
        &mut self,
        ledger: &Ledger,
        device: &'a SigningKey,
    ) -> (Option<&'a SigningKey>, Command) {
        let volume = self.volume;
        let lease = ledger.lease(&volume);
        let fencing = lease.map_or(0, |lease| lease.fencing);
        let mine = lease.is_some_and(|lease| lease.device == device.id());
        let duration_ms = self.rng.between(500, 60_000);
        let known = packs::known(ledger, &volume, &mut self.rng);
        let command = match self.rng.below(100) {
            0..40 if mine || self.rng.per_mille(100) => {
                let sequence = ledger.head(&volume).map_or(0, |head| head.sequence) + 1;
                Command::SetHead {
                    volume,
                    sequence,
                    fencing,
                    bytes: self.rng.bytes::<48>().to_vec(),
                }
            }
            0..50 => Command::AcquireLease {
                volume,
                duration_ms,
                steal: self.rng.per_mille(300),
            },
            50..56 => Command::RenewLease {
                volume,
                fencing,
                duration_ms,
            },
            56..60 => Command::ReleaseLease { volume, fencing },
            60..78 => {
                let first = self.packs;
                let count = self.rng.between(1, 4);
                self.packs += count;
                packs::place(
                    &self.group,
                    self.member,
                    volume,
                    first..first + count,
                    &mut self.rng,
                )
            }
            78..84 => Command::Release {
                volume,
                packs: known,
            },
            84..88 => {
                return (
                    None,
                    Command::VetoRelease {
                        volume,
                        packs: known,
                    },
                );
            }
            88..91 => match self.home() {
                Some(home) => {
                    return (
                        None,
                        Command::SetHome {
                            home: Box::new(home),
                        },
                    );
                }
                None => Command::Note { bytes: Vec::new() },
            },
            91..92 if self.devices.len() < 6 => {
                let (member, device) = (self.member, device.id());
                self.devices.retain(|known| known.id() != device);
                self.devices.push(new_device(&mut self.rng));
                return (None, Command::RevokeDevice { member, device });
            }
            92..94 => {
                let known = ledger.volume(&volume);
                let replaces = known.map_or(Digest([0; 32]), |known| known.header_digest());
                let header = self.rng.bytes::<64>().to_vec();
                return (
                    None,
                    Command::ReplaceHeader {
                        volume,
                        replaces,
                        header,
                    },
                );
            }
            _ => Command::Note {
                bytes: self.rng.bytes::<16>().to_vec(),
            },
        };
        (Some(device), command)
    }

    /// The member's volumes, signed by its recovery key; newer each time.
    fn home(&mut self) -> Option<SignedHome> {
        self.homes += 1;
        let recovery = self.group.recovery_key(self.member).ok()?;
        let volumes = vec![self.volume];
        Some(SignedHome::sign(
            self.group.id(),
            recovery,
            self.member,
            volumes,
            self.homes,
        ))
    }
}

fn new_device(rng: &mut Rng) -> SigningKey {
    SigningKey::from_seed(rng.bytes())
}
