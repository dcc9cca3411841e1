//! Questions that a member has to answer, directly or on the record, and their answers. On the ledger both are bytes;
//! what they mean is said here. Tags are stable. Whoever does not understand a question says so: that is an answer.

use barfs_crypto::{NodeId, Signature, SigningKey};
use barfs_replication::{GroupId, MemberId, Replica};
use borsh::{BorshDeserialize, BorshSerialize};

/// The domain of signatures over answers.
const DOMAIN: &str = "barfs 2026 direct answer v1";

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Question {
    /// How far the member is: answered with [`Reply::Progress`].
    Progress = 0,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Reply {
    /// The question is not one that this member knows.
    NotUnderstood = 0,
    /// How far the member is.
    Progress {
        /// Commands executed.
        ledger_index: u64,
        /// Newest round committed.
        committed_round: u64,
    } = 1,
}

/// An answer under the signature of whoever gave it directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedReply {
    /// The answer.
    pub reply: Reply,
    /// By the member's node key, over the group, the member, the question with its nonce, and the answer.
    pub signature: Signature,
}

fn message(
    group: &GroupId,
    member: MemberId,
    (nonce, question): (&[u8; 16], &[u8]),
    reply: &Reply,
) -> std::io::Result<Vec<u8>> {
    borsh::to_vec(&(group, member, nonce, question, reply))
}

/// What a replica answers.
pub fn reply(replica: &Replica, question: &[u8]) -> Reply {
    match Question::try_from_slice(question) {
        Ok(Question::Progress) => Reply::Progress {
            ledger_index: replica.ledger().index(),
            committed_round: replica.status().last_committed_round,
        },
        Err(_) => Reply::NotUnderstood,
    }
}

impl SignedReply {
    /// Signs what `member` answers.
    pub fn sign(
        (group, member): (&GroupId, MemberId),
        key: &SigningKey,
        question: (&[u8; 16], &[u8]),
        reply: Reply,
    ) -> std::io::Result<Self> {
        let signature = key.sign(DOMAIN, &message(group, member, question, &reply)?);
        Ok(Self { reply, signature })
    }

    /// The answer, if `member` with this key gave it to this question.
    pub fn verified(
        &self,
        (group, member): (&GroupId, MemberId),
        key: &NodeId,
        question: (&[u8; 16], &[u8]),
    ) -> Option<Reply> {
        let message = message(group, member, question, &self.reply).ok()?;
        let verified = key.verify(DOMAIN, &message, &self.signature);
        verified.is_ok().then_some(self.reply)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use barfs_crypto::Digest;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_counts_for_its_question_and_its_member_alone() {
        let (key, other) = (
            SigningKey::from_seed([1; 32]),
            SigningKey::from_seed([2; 32]),
        );
        let (group, stranger) = (GroupId(Digest([3; 32])), GroupId(Digest([4; 32])));
        let me = MemberId(1);
        let asked = (&[5; 16], &[0][..]);
        let signed = SignedReply::sign((&group, me), &key, asked, Reply::NotUnderstood).unwrap();
        let id = key.id();
        assert_eq!(
            signed.verified((&group, me), &id, asked),
            Some(Reply::NotUnderstood)
        );
        assert_eq!(signed.verified((&stranger, me), &id, asked), None);
        assert_eq!(signed.verified((&group, MemberId(2)), &id, asked), None);
        assert_eq!(signed.verified((&group, me), &other.id(), asked), None);
        assert_eq!(signed.verified((&group, me), &id, (&[6; 16], &[0])), None);
        assert_eq!(signed.verified((&group, me), &id, (&[5; 16], &[1])), None);
        let forged = SignedReply {
            reply: Reply::Progress {
                ledger_index: 1,
                committed_round: 1,
            },
            ..signed
        };
        assert_eq!(forged.verified((&group, me), &id, asked), None);
    }

    #[test]
    fn bytes_on_the_ledger_stay_what_they_are() {
        assert_eq!(borsh::to_vec(&Question::Progress).unwrap(), [0]);
        assert_eq!(borsh::to_vec(&Reply::NotUnderstood).unwrap(), [0]);
        let progress = Reply::Progress {
            ledger_index: 2,
            committed_round: 3,
        };
        let bytes = borsh::to_vec(&progress).unwrap();
        assert_eq!(
            bytes,
            [&[1][..], &2u64.to_le_bytes(), &3u64.to_le_bytes()].concat()
        );
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_or_read_whole(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(question) = Question::try_from_slice(&bytes) {
                prop_assert_eq!(&borsh::to_vec(&question).unwrap(), &bytes);
            }
            if let Ok(reply) = Reply::try_from_slice(&bytes) {
                prop_assert_eq!(&borsh::to_vec(&reply).unwrap(), &bytes);
            }
        }
    }
}
