//! What others carry for a member: bounded for each audit epoch, so that nobody floods the group through carriers.
//!
//! A member's own commands in its own blocks do not count: those it pays for itself. Its recovery key has as much again
//! as its node and devices together, so that whoever has its devices cannot keep it out.

use super::command::{Issuer, SignedCommand};
use super::outcome::Refusal;
use super::state::{Account, Ledger};
use crate::membership::MemberId;
use crate::wire;

impl Ledger {
    /// Counts a command that another member's block has carried.
    pub(super) fn charge_carried(
        &mut self,
        member: MemberId,
        command: &SignedCommand,
    ) -> Result<(), Refusal> {
        let epoch = self.audit_epoch();
        let bytes = u64::try_from(wire::encoded_len(command)).unwrap_or(u64::MAX);
        if !self.may_be_carried(member, &command.issuer) {
            return Err(Refusal::Allowance);
        }
        if let Some(account) = self.tables.accounts.get_mut(&member) {
            if account.carried_epoch != epoch {
                (account.carried_epoch, account.carried) = (epoch, 0);
            }
            account.carried = account.carried.saturating_add(bytes);
        }
        Ok(())
    }

    /// Whether others would still carry commands of a member in this audit epoch.
    #[must_use]
    pub fn may_be_carried(&self, member: MemberId, issuer: &Issuer) -> bool {
        let epoch = self.audit_epoch();
        let now = |account: &&Account| account.carried_epoch == epoch;
        let carried = self.account(member).filter(now).map_or(0, |it| it.carried);
        let most = self.genesis.params.carried_bytes_max;
        let most = match issuer {
            Issuer::Recovery(_) => most.saturating_mul(2),
            Issuer::Member(_) | Issuer::Device(_) => most,
        };
        carried < most
    }
}
