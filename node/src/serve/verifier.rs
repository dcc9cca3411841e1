//! The thread that checks signatures. What comes in while it is busy is checked together the next time, whoever sent it:
//! the more there is to do, the less each signature costs.
//!
//! Who sends much does not hold the others up: of each sender one thing is taken in turn. Whoever sent something that does
//! not verify is looked at alone for a while, so that it cannot spoil what others sent.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::{KnownKeys, NodeId, SignedBy};
use barfs_replication::{Verdict, verify_together};
use parking_lot::{Condvar, Mutex};

/// So many signatures are gathered at most: more together cost hardly less each, and what comes meanwhile waits longer.
pub(super) const GATHERED: usize = 256;
/// How long somebody is looked at alone.
const ALONE: Duration = Duration::from_secs(60);
/// So many are remembered.
const ALONE_MAX: usize = 1024;

/// What has signatures to be checked.
pub(super) trait Job: Send {
    /// Those of each thing in it, to `into`.
    fn signatures<'a>(&'a self, into: &mut Vec<&'a [SignedBy]>);
    /// They have been checked: a verdict for each thing.
    fn checked(self: Box<Self>, verdicts: &[Verdict]);
}

/// Every sender's, in the order in which they came.
#[derive(Default)]
struct Waiting {
    jobs: BTreeMap<NodeId, VecDeque<Box<dyn Job>>>,
    /// Who had its turn last.
    last: Option<NodeId>,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

/// See the module. The thread ends with it; what waits then is dropped.
pub struct Verifier(Arc<Shared>);

impl Drop for Verifier {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        waiting.ended = true;
        waiting.jobs.clear();
        self.0.more.notify_one();
    }
}

impl Verifier {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system does not give one.
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let checking = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("verifier".into())
            .spawn(move || check(&checking))?;
        Ok(Self(shared))
    }

    /// Has something checked that `sender` brought.
    pub(super) fn check(&self, sender: NodeId, job: impl Job + 'static) {
        let mut waiting = self.0.waiting.lock();
        let idle = waiting.jobs.is_empty();
        waiting
            .jobs
            .entry(sender)
            .or_default()
            .push_back(Box::new(job));
        if idle {
            self.0.more.notify_one();
        }
    }
}

impl Waiting {
    /// The next sender's oldest.
    fn next(&mut self) -> Option<(NodeId, Box<dyn Job>)> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.jobs.range((after, Bound::Unbounded)).next();
        let sender = *next.or_else(|| self.jobs.iter().next())?.0;
        self.last = Some(sender);
        let jobs = self.jobs.get_mut(&sender)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&sender);
        }
        Some((sender, job?))
    }
}

/// Whose signatures did not verify, and until when that counts.
#[derive(Default)]
struct Suspects(BTreeMap<NodeId, Instant>);

impl Suspects {
    fn has(&self, sender: NodeId) -> bool {
        let until = self.0.get(&sender);
        until.is_some_and(|until| Instant::now() < *until)
    }

    fn add(&mut self, sender: NodeId) {
        let now = Instant::now();
        if self.0.len() >= ALONE_MAX {
            self.0.retain(|_, until| now < *until);
        }
        if self.0.len() < ALONE_MAX {
            self.0.insert(sender, now + ALONE);
        }
    }
}

type Sent = (NodeId, Box<dyn Job>);

/// What waits, one of each sender in turn, up to [`GATHERED`] signatures. What a suspect sent comes alone: it is put into
/// `alone` until the others are done. Waits until there is some; empty at the end.
fn gather(shared: &Shared, suspects: &Suspects, alone: &mut Option<Sent>) -> Vec<Sent> {
    if let Some(sent) = alone.take() {
        return vec![sent];
    }
    let mut waiting = shared.waiting.lock();
    while waiting.jobs.is_empty() && !waiting.ended {
        shared.more.wait(&mut waiting);
    }
    let (mut batch, mut count) = (Vec::new(), 0);
    while count < GATHERED
        && let Some((sender, job)) = waiting.next()
    {
        if suspects.has(sender) {
            *alone = Some((sender, job));
            break;
        }
        let mut groups = Vec::new();
        job.signatures(&mut groups);
        count += groups.iter().map(|group| group.len()).sum::<usize>();
        drop(groups);
        batch.push((sender, job));
    }
    match alone.take_if(|_| batch.is_empty()) {
        Some(sent) => vec![sent],
        None => batch,
    }
}

fn check(shared: &Shared) {
    let mut known = KnownKeys::default();
    let (mut suspects, mut alone) = (Suspects::default(), None);
    loop {
        let batch = gather(shared, &suspects, &mut alone);
        if batch.is_empty() {
            return;
        }
        let (mut groups, mut counts) = (Vec::new(), Vec::new());
        for (_, job) in &batch {
            let before = groups.len();
            job.signatures(&mut groups);
            counts.push(groups.len() - before);
        }
        let verdicts = verify_together(&groups, &mut known);
        drop(groups);
        let mut rest = &verdicts[..];
        for ((sender, job), count) in batch.into_iter().zip(counts) {
            let (own, others) = rest.split_at(count);
            rest = others;
            if !own.iter().all(|verdict| verdict.holds()) {
                suspects.add(sender);
            }
            job.checked(own);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use barfs_crypto::SigningKey;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Tells what was found of it, and then waits until it may go on.
    struct Told {
        name: u32,
        signed: Vec<SignedBy>,
        told: Sender<(u32, bool)>,
        go_on: Option<std::sync::mpsc::Receiver<()>>,
    }

    impl Job for Told {
        fn signatures<'a>(&'a self, into: &mut Vec<&'a [SignedBy]>) {
            into.push(&self.signed);
        }

        fn checked(self: Box<Self>, verdicts: &[Verdict]) {
            assert_eq!(verdicts.len(), 1);
            self.told.send((self.name, verdicts[0].holds())).unwrap();
            if let Some(go_on) = &self.go_on {
                go_on.recv_timeout(PATIENCE).unwrap();
            }
        }
    }

    fn sender(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn signed(good: bool) -> Vec<SignedBy> {
        let key = SigningKey::from_seed([7; 32]);
        let said: &[u8] = if good { b"this" } else { b"other" };
        vec![SignedBy::new(
            key.id(),
            "test",
            b"this",
            key.sign("test", said),
        )]
    }

    /// What is told of these jobs that come in, in this order, while the verifier is busy.
    fn told_of(verifier: &Verifier, jobs: &[(u8, u32, bool)]) -> Vec<(u32, bool)> {
        let (told, hear) = channel();
        let (release, go_on) = channel();
        let job = |name, good, go_on| Told {
            name,
            signed: signed(good),
            told: told.clone(),
            go_on,
        };
        verifier.check(sender(200), job(0, true, Some(go_on)));
        assert_eq!(hear.recv_timeout(PATIENCE), Ok((0, true)));
        for (from, name, good) in jobs {
            verifier.check(sender(*from), job(*name, *good, None));
        }
        release.send(()).unwrap();
        let all = jobs.iter().map(|_| hear.recv_timeout(PATIENCE).unwrap());
        all.collect()
    }

    #[test]
    fn who_sends_much_waits_for_its_turn_and_what_is_bad_harms_nobody_else() {
        let verifier = Verifier::start().unwrap();
        let jobs = [
            (1, 11, true),
            (1, 12, true),
            (1, 13, true),
            (2, 21, false),
            (3, 31, true),
            (3, 32, true),
        ];
        let told = told_of(&verifier, &jobs);
        assert_eq!(
            told,
            [
                (11, true),
                (21, false),
                (31, true),
                (12, true),
                (32, true),
                (13, true)
            ]
        );
        // Who sent it is looked at alone from then on, and still gets what is its own.
        let told = told_of(
            &verifier,
            &[(1, 14, true), (2, 22, true), (3, 33, false), (2, 23, true)],
        );
        let mut names: Vec<(u32, bool)> = told.clone();
        names.sort_unstable();
        assert_eq!(names, [(14, true), (22, true), (23, true), (33, false)]);
    }

    /// A job of `signatures` from each of these senders, which nobody looks at.
    fn waiting(senders: &[u8], signatures: usize) -> Shared {
        let shared = Shared::default();
        for from in senders {
            let job = Told {
                name: 0,
                signed: signed(true).repeat(signatures),
                told: channel().0,
                go_on: None,
            };
            let jobs = &mut shared.waiting.lock().jobs;
            jobs.entry(sender(*from))
                .or_default()
                .push_back(Box::new(job));
        }
        shared
    }

    fn senders(batch: Vec<Sent>) -> Vec<NodeId> {
        batch.into_iter().map(|(sender, _)| sender).collect()
    }

    #[test]
    fn a_suspect_comes_alone_until_its_time_is_over() {
        let shared = waiting(&[1, 2, 3], 1);
        let (mut suspects, mut alone) = (Suspects::default(), None);
        suspects.add(sender(2));
        let mut next = || senders(gather(&shared, &suspects, &mut alone));
        assert_eq!([next(), next(), next()], [1, 2, 3].map(|n| vec![sender(n)]));
        let over = Instant::now()
            .checked_sub(Duration::from_millis(1))
            .unwrap();
        suspects.0.insert(sender(2), over);
        assert!(!suspects.has(sender(2)));
    }

    #[test]
    fn a_batch_is_bounded() {
        let shared = waiting(&[1, 2, 3, 4, 5], GATHERED / 2);
        let (suspects, mut alone) = (Suspects::default(), None);
        let mut next = || senders(gather(&shared, &suspects, &mut alone)).len();
        assert_eq!([next(), next(), next()], [2, 2, 1]);
    }

    #[test]
    fn the_thread_ends_with_its_owner() {
        let verifier = Verifier::start().unwrap();
        let shared = Arc::downgrade(&verifier.0);
        drop(verifier);
        let started = Instant::now();
        while shared.upgrade().is_some() {
            assert!(started.elapsed() < PATIENCE, "the thread goes on");
            std::thread::yield_now();
        }
    }
}
