//! This member's part in the beacon: its key, derived from the machine's first member key, is registered once, and again
//! where another machine took the member over; the shares that are owed each audit epoch the replica makes by itself.

use std::time::Duration;

use barfs_crypto::{SigningKey, VrfSecret, derive};
use barfs_replication::{
    Command, GroupId, MemberId, Outcome as LedgerOutcome, Replica, vrf_possession,
};

use crate::driver::{DriverHandle, Stopped};
use crate::exit::{During, Exit, Outcome};

/// Between two looks whether this member sits and has registered.
const INTERVAL: Duration = Duration::from_secs(5);

/// The key with which this member takes part.
pub(super) fn beacon_secret(key: &SigningKey) -> Outcome<VrfSecret> {
    let seed = derive("barfs 2026 beacon key v1", &key.seed()[..]);
    VrfSecret::from_seed(&seed.0).during(Exit::Failed, "cannot make the key for the beacon")
}

/// Registers the key as soon as this member sits; returns when it is on record.
pub(super) async fn register(
    driver: DriverHandle,
    me: MemberId,
    group: GroupId,
    secret: VrfSecret,
) {
    while let Ok(false) = try_to_register(&driver, me, group, &secret).await {
        tokio::time::sleep(INTERVAL).await;
    }
}

/// True once this key is on record.
async fn try_to_register(
    driver: &DriverHandle,
    me: MemberId,
    group: GroupId,
    secret: &VrfSecret,
) -> Result<bool, Stopped> {
    let public = secret.public();
    let standing = move |replica: &Replica| {
        let account = replica.ledger().account(me);
        let registered = account.is_some_and(|account| account.beacon.key == Some(public));
        (registered, replica.is_seated())
    };
    let (registered, seated) = driver.read(move |replica| standing(replica)).await?;
    if registered || !seated {
        return Ok(registered);
    }
    let command = Command::RegisterVrf {
        public: Box::new(public),
        possession: vrf_possession(group, me, secret),
    };
    let (_, outcome) = driver.own(me, command, None).await?;
    if let LedgerOutcome::Refused(refusal) = &outcome {
        tracing::warn!(%refusal, "the key for the beacon was not registered");
    }
    Ok(matches!(outcome, LedgerOutcome::Applied(_)))
}
