//! An invitation as people hand it on: the member's signed word, and where that member is to be found.
//!
//! Only the signed word counts; name, address and key help to find the group and are checked against it there.

use std::fmt;
use std::str::FromStr;

use barfs_crypto::NodeId;
use barfs_replication::InviteToken;
use borsh::{BorshDeserialize, BorshSerialize};

use crate::exit::{Exit, Failure};

const PREFIX: &str = "barfs-invitation-1:";
/// Longer texts are no invitations.
const TEXT_MAX: usize = 4096;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Invitation {
    /// What the ledger will judge.
    pub token: InviteToken,
    /// The group's name, for people.
    pub group: String,
    /// Address of the member that invites.
    pub address: String,
    /// Its node key.
    pub key: NodeId,
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = borsh::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", hex::encode(bytes))
    }
}

impl FromStr for Invitation {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = |cause: String| {
            Failure::new(Exit::Usage, format!("this is not an invitation: {cause}"))
        };
        let text = text.trim();
        if text.len() > TEXT_MAX {
            return Err(bad("it is too long".into()));
        }
        let body = text
            .strip_prefix(PREFIX)
            .ok_or_else(|| bad(format!("it does not begin with {PREFIX}")))?;
        let bytes = hex::decode(body).map_err(|cause| bad(format!("{cause}; was it cut off?")))?;
        borsh::from_slice(&bytes).map_err(|cause| bad(cause.to_string()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use barfs_crypto::{Digest, SigningKey};
    use barfs_replication::{GroupId, LiveTime, MemberId};
    use proptest::prelude::*;

    fn invitation() -> Invitation {
        let key = SigningKey::from_seed([7; 32]);
        let group = GroupId(Digest([1; 32]));
        Invitation {
            token: InviteToken::sign(group, &key, MemberId(3), [9; 16], LiveTime(5)),
            group: "family".into(),
            address: "alice.example:7100".into(),
            key: key.id(),
        }
    }

    #[test]
    fn goes_through_text() {
        let text = format!("  {}\n", invitation());
        assert_eq!(text.parse::<Invitation>().unwrap(), invitation());
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_is_told() {
        let text = invitation().to_string();
        for (broken, says) in [
            ("", "begin"),
            (&text[..text.len() - 7], "cut off"),
            (&text[..text.len() - 8], "invitation"),
            ("barfs-card-1:00", "begin"),
        ] {
            let failure = broken.parse::<Invitation>().unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains(says), "{failure}");
        }
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "(barfs-invitation-1:)?[0-9a-f]{0,600}") {
            if let Ok(read) = text.parse::<Invitation>() {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
