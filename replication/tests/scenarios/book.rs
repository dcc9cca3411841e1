//! A ledger alone, with one member's devices and a volume.

use std::sync::Arc;

use barfs_crypto::{Digest, NodeId, SigningKey, hash};
use barfs_replication::*;

use crate::world::{found, key, m};

pub const VOLUME: VolumeId = VolumeId([5; 16]);

pub struct Book {
    pub genesis: Arc<Genesis>,
    pub ledger: Ledger,
    pub live: LiveTime,
}

pub fn device(number: u16) -> NodeId {
    key(3, number).id()
}

pub fn by_device(number: u16) -> Issuer {
    Issuer::Device(device(number))
}

impl Book {
    /// Member m0 with devices 1 and 2, member m1 with device 11; m0 has a volume.
    pub fn new(n: u16, params: Params) -> Self {
        let genesis = found(n, params);
        let ledger = Ledger::new(Arc::clone(&genesis));
        let live = LiveTime(0);
        let mut book = Self {
            genesis,
            ledger,
            live,
        };
        for (member, number) in [(0, 1), (0, 2), (1, 11)] {
            let add = Command::AddDevice {
                member: m(member),
                device: device(number),
                label: format!("device {number}"),
            };
            book.must(Issuer::Member(m(member)), add);
        }
        let create = Command::CreateVolume {
            member: m(0),
            volume: VOLUME,
            name: "home".into(),
            header: vec![1; 40],
        };
        book.must(by_device(1), create);
        book
    }

    fn key_of(&self, issuer: Issuer) -> SigningKey {
        match issuer {
            Issuer::Member(member) => key(1, member.0),
            Issuer::Recovery(member) => key(2, member.0),
            Issuer::Device(id) => (0..100).map(|i| key(3, i)).find(|k| k.id() == id).unwrap(),
        }
    }

    /// Signs, verifies and executes.
    pub fn numbered(&mut self, issuer: Issuer, number: u64, command: Command) -> Outcome {
        let key = self.key_of(issuer);
        let group = self.genesis.group_id();
        let signed = SignedCommand::sign(group, &key, issuer, number, command);
        signed.verify_signature(&self.genesis).unwrap();
        let command = BlockCommand::Signed(signed);
        let outcome = self.ledger.apply(self.live, m(3), &command);
        self.check_accounts();
        outcome
    }

    pub fn ask(&mut self, issuer: Issuer, command: Command) -> Outcome {
        let number = self.ledger.next_number(&issuer);
        self.numbered(issuer, number, command)
    }

    pub fn must(&mut self, issuer: Issuer, command: Command) -> Effect {
        match self.ask(issuer, command) {
            Outcome::Applied(effect) => effect,
            Outcome::Refused(refusal) => panic!("refused: {refusal}"),
        }
    }

    pub fn refused(&mut self, issuer: Issuer, command: Command) -> Refusal {
        match self.ask(issuer, command) {
            Outcome::Applied(effect) => panic!("applied: {effect:?}"),
            Outcome::Refused(refusal) => refusal,
        }
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.live = self.live.after_ms(ms);
        self.ledger.advance(self.live, WallTime(0));
        self.check_accounts();
    }

    pub fn acquire(&mut self, number: u16) -> u32 {
        let acquire = Command::AcquireLease {
            volume: VOLUME,
            duration_ms: 1000,
            steal: true,
        };
        match self.must(by_device(number), acquire) {
            Effect::Lease { fencing, .. } => fencing,
            other => panic!("{other:?}"),
        }
    }

    /// What the group signs for a pack of `len` bytes with this number.
    pub fn placement(&self, number: u64, len: u64, k: u8, m: u8) -> Placement {
        self.placement_without(number, len, (k, m), &[])
    }

    /// The same, with candidates passed over as unreachable.
    pub fn placement_without(
        &self,
        number: u64,
        len: u64,
        (k, parity): (u8, u8),
        away: &[MemberId],
    ) -> Placement {
        let mut holders: Vec<Option<MemberId>> = candidates(&self.genesis, m(0), VOLUME, number)
            .into_iter()
            .filter(|member| !away.contains(member))
            .map(Some)
            .collect();
        holders.resize(usize::from(k + parity), None);
        let root: Digest = hash(&number.to_le_bytes());
        let shard_len = barfs_crypto::shard_len(len, k).unwrap();
        let receipts = (0_u8..)
            .zip(&holders)
            .filter_map(|(index, holder)| {
                let holder = (*holder)?;
                let shard = ShardName {
                    volume: VOLUME,
                    number,
                    root,
                    index,
                };
                let group = self.genesis.group_id();
                Some(Receipt::sign(
                    group,
                    &key(1, holder.0),
                    holder,
                    shard,
                    shard_len,
                ))
            })
            .collect();
        let record = PackRecord {
            owner: m(0),
            volume: VOLUME,
            number,
            root,
            len,
            k,
            m: parity,
            shard_len,
            holders,
        };
        let passed_over = away.iter().map(|i| (*i, PassedOver::Unreachable)).collect();
        Placement {
            record,
            receipts,
            passed_over,
        }
    }

    pub fn place(&mut self, placement: Placement) -> Outcome {
        let packs = vec![placement];
        self.ask(by_device(1), Command::Place { packs })
    }

    /// The accounts are what the packs on record add up to, and within the pledges.
    fn check_accounts(&self) {
        let packs: Vec<&PackRecord> = self
            .ledger
            .packs_of(&VOLUME, 0, usize::MAX)
            .map(|entry| &entry.record)
            .collect();
        for member in self.genesis.ids() {
            let account = self.ledger.account(member).unwrap();
            assert!(account.used <= account.pledge && account.held <= account.pledge);
            let used: u64 = packs
                .iter()
                .filter(|pack| pack.owner == member)
                .map(|pack| (u64::from(pack.shard_len) * pack.shards() as u64).max(1 << 20))
                .sum();
            let held = |pack: &&&PackRecord| pack.holders.contains(&Some(member));
            let held: u64 = packs
                .iter()
                .filter(held)
                .map(|pack| u64::from(pack.shard_len))
                .sum();
            assert_eq!((account.used, account.held), (used, held), "{member}");
            assert_eq!(
                self.ledger.packs_held_by(member).count(),
                packs
                    .iter()
                    .filter(|p| p.holders.contains(&Some(member)))
                    .count()
            );
        }
    }
}
