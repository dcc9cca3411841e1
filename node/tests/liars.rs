//! One of five members answers its devices with well-signed lies: nobody believes it, and nobody is kept waiting.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use barfs::cluster::{Cluster, run};
use barfs::datadir::DataDir;
use barfs::exit::Exit;
use barfs::group::{Chain, GroupClient, Stranger};
use barfs::transport::TransportError;
use barfs::transport::endpoint::listen;
use barfs::transport::frame::{FrameReader, Limits, send};
use barfs::transport::protocol::{
    AccountState, Answer, Query, Releasing, Request, STATE_DOMAIN, SignedState, State, VolumeState,
    state_message,
};
use barfs_crypto::{RecoverySecret, SigningKey};
use barfs_replication::{
    Command, Effect, Genesis, GroupId, MemberCard, MemberId, Outcome, Params, Refusal, SignedHome,
};
use bytes::Bytes;
use common::{GIB, Group, bytes, exe, text};
use s2n_quic::stream::BidirectionalStream;

/// A member in whose place this answers. Its fault model: it takes no part in the order, signs well, says of everything that
/// it asked of the newest ledger there could be, and that it is empty or long gone on; holds no shard that it says it holds.
struct Liar {
    group: GroupId,
    key: SigningKey,
    /// What it gives out as the group, if that is forged.
    forged: Option<Genesis>,
    /// The home that it gives out, of whoever asks.
    home: Mutex<Option<SignedHome>>,
    /// What it says became of whatever it is asked to carry.
    refusal: Refusal,
    told: AtomicUsize,
    carried: AtomicUsize,
}

impl Liar {
    fn state(query: &Query) -> State {
        match query {
            Query::Volume(_) => State::Volume(Some(VolumeState {
                owner: MemberId(4),
                name: "a lie".into(),
                header: vec![0; 64],
                head: Some((u64::MAX, vec![0; 100])),
                lease: None,
            })),
            Query::Volumes(_) => State::Volumes(vec![]),
            Query::Packs { .. } => State::Packs(vec![]),
            Query::Account(_) => State::Account(AccountState {
                pledge: 0,
                held: 0,
                used: u64::MAX,
            }),
            Query::Number(_) => State::Number(u64::MAX),
            Query::Device(_) => State::Device(None),
            Query::Convicted => State::Convicted((0..4).map(MemberId).collect()),
            Query::Releasing { .. } => State::Releasing(Releasing {
                packs: vec![],
                next: Some(u64::MAX),
                now: barfs_replication::LiveTime(0),
            }),
        }
    }

    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Query { nonce, query, .. } => {
                self.told.fetch_add(1, Ordering::Relaxed);
                let state = Self::state(&query);
                let message = state_message(&self.group, &nonce, u64::MAX, &query, &state).unwrap();
                Answer::State(SignedState {
                    index: u64::MAX,
                    state,
                    signature: self.key.sign(STATE_DOMAIN, &message),
                })
            }
            Request::Submit(_) => {
                self.carried.fetch_add(1, Ordering::Relaxed);
                Answer::Executed {
                    index: u64::MAX,
                    outcome: Outcome::Refused(self.refusal.clone()),
                }
            }
            Request::Handovers { .. } => Answer::Handovers(vec![]),
            Request::Group => match &self.forged {
                Some(forged) => Answer::Group(forged.encode()),
                None => Answer::Refused("not today".into()),
            },
            Request::Home { .. } => Answer::Home(self.home.lock().unwrap().clone()),
            Request::ProveRecovery { .. } => Answer::Done,
            _ => Answer::NotHere,
        }
    }

    async fn serve(&self, stream: BidirectionalStream) -> Result<(), TransportError> {
        let (receive, mut answer) = stream.split();
        let mut frames = FrameReader::new(receive, Limits::KNOWN);
        let request = frames.expect::<Request>().await?.header;
        if matches!(request, Request::Consensus) {
            while frames.next_bytes().await?.is_some() {}
            return Ok(());
        }
        send(&mut answer, &self.answer(request), Bytes::new()).await?;
        let closed = answer.close().await;
        closed.map_err(|cause| TransportError::Broken(cause.to_string()))
    }

    /// Answers at the member's address for as long as the runtime lives.
    fn start(self, address: SocketAddr) -> Arc<Self> {
        let liar = Arc::new(self);
        let serving = Arc::clone(&liar);
        tokio::spawn(async move {
            // The kernel may give the port of a process that was killed free a moment after it is gone.
            let begun = Instant::now();
            let mut server = loop {
                match listen(&serving.key, address) {
                    Ok(server) => break server,
                    Err(cause) if begun.elapsed() > Duration::from_secs(5) => panic!("{cause}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            while let Some(mut connection) = server.accept().await {
                let liar = Arc::clone(&serving);
                tokio::spawn(async move {
                    while let Ok(Some(stream)) = connection.accept_bidirectional_stream().await {
                        let liar = Arc::clone(&liar);
                        // A stream that fails is the other side's business.
                        tokio::spawn(async move { liar.serve(stream).await.is_ok() });
                    }
                });
            }
        });
        liar
    }
}

/// So many members, the last of which lies; the others run.
fn with_a_liar(
    members: usize,
    forged: bool,
    refusal: Refusal,
) -> (tokio::runtime::Runtime, Arc<Liar>, Group) {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = {
        let pledges = vec![GIB; members];
        Cluster::create(exe(), &dir.path().join("group"), members, &pledges)
    }
    .unwrap();
    let honest = members - 1;
    let place = &cluster.nodes()[honest];
    let data = DataDir::open(&place.dir).unwrap();
    let (genesis, _) = data.group().unwrap();
    let (key, card) = (data.key().unwrap(), data.card().unwrap());
    let cards: Vec<MemberCard> = vec![card];
    let forged =
        forged.then(|| Genesis::new("forged", 0, cards, Params::default(), [7; 16]).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let liar = Liar {
        group: genesis.group_id(),
        key,
        forged,
        home: Mutex::default(),
        refusal,
        told: AtomicUsize::new(0),
        carried: AtomicUsize::new(0),
    };
    let _inside = runtime.enter();
    let liar = liar.start(place.address);
    drop(_inside);
    for index in 0..honest {
        cluster.start_node(index).unwrap();
    }
    cluster.wait_until_up(0, honest).unwrap();
    let group = Group::with(cluster, dir);
    (runtime, liar, group)
}

#[test]
fn a_volume_works_beside_a_member_that_lies_about_the_ledger() {
    let (_runtime, liar, group) = with_a_liar(5, false, Refusal::NotAllowed);
    let mount = group.mount();
    let content = bytes(1, 3 << 20);
    fs::write(mount.at().join("f"), &content).unwrap();
    mount.sync().unwrap();
    mount.drop_caches().unwrap();
    barfs::manifest::forget_pages(mount.at()).unwrap();
    assert!(fs::read(mount.at().join("f")).unwrap() == content);
    assert!(mount.unmount().unwrap().success());
    // A new machine, which knows nothing but the words and an honest member.
    let home = group.path("new");
    let begun = Instant::now();
    group.cluster.recover(0, 1, &home).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
    let at = group.path("again");
    fs::create_dir(&at).unwrap();
    let again = group.cluster.mount(&home, &at, &["--steal"]).unwrap();
    assert!(fs::read(at.join("f")).unwrap() == content);
    assert!(again.unmount().unwrap().success());
    let told = liar.told.load(Ordering::Relaxed) + liar.carried.load(Ordering::Relaxed);
    assert!(told > 3, "the liar was asked {told} times");
    // What it says of the others convicts nobody.
    let dir = text(&group.cluster.nodes()[0].dir);
    let members = run(exe(), &group.home, &["group", "members", "--dir", dir]).unwrap();
    assert!(!members.stdout.contains("LIED"), "{}", members.stdout);
}

#[test]
fn a_forged_group_is_refused() {
    let (runtime, liar, group) = with_a_liar(5, true, Refusal::NotAllowed);
    let node = &group.cluster.nodes()[0];
    let passphrase = group.cluster.passphrase_file();
    let recover = || {
        let address = group.cluster.nodes()[4].address.to_string();
        let args = [
            "recover",
            "--peer",
            &address,
            "--phrase-file",
            text(&node.phrase_file),
            "--passphrase-file",
            text(&passphrase),
        ];
        run(exe(), &group.path("new"), &args).unwrap()
    };
    let ended = recover();
    assert_eq!(ended.code(), Exit::WrongPhrase as i32, "{ended:?}");
    // It passes the owner's own signature on, which is for the group that it is for.
    let words = fs::read_to_string(&node.phrase_file).unwrap();
    let recovery = RecoverySecret::from_words(words.trim()).unwrap();
    let home = runtime.block_on(async {
        let honest = Stranger::unknown(group.cluster.nodes()[1].address).unwrap();
        honest.home(recovery.signing_key().id()).await
    });
    *liar.home.lock().unwrap() = Some(home.unwrap().unwrap());
    let ended = recover();
    assert_eq!(ended.code(), Exit::WrongGroup as i32, "{ended:?}");
    assert!(ended.stderr.contains("forged"), "{ended:?}");
}

/// In a group of four nobody lies, so what one member reports is believed; but that its seat is suspended says nothing of
/// the command.
#[test]
fn a_suspended_seat_keeps_no_command_from_being_carried() {
    let (runtime, suspended, group) = with_a_liar(4, false, Refusal::Suspended);
    let node = &group.cluster.nodes()[0];
    let genesis = DataDir::open(&node.dir).unwrap().group().unwrap().0;
    let words = fs::read_to_string(&node.phrase_file).unwrap();
    let recovery = RecoverySecret::from_words(words.trim()).unwrap();
    // Whom a device asks first goes by its key: this one asks the last of the four.
    let device = (0..=255)
        .map(|seed| SigningKey::from_seed([seed; 32]))
        .find(|key| key.id().0[0] % 4 == 3)
        .unwrap();
    let certify = Command::AddDevice {
        member: MemberId(0),
        device: device.id(),
        label: "new".into(),
    };
    let outcome = runtime.block_on(async {
        let chain = Chain::new(Arc::new(genesis));
        let recovery = recovery.signing_key().clone();
        let client = GroupClient::new(chain, device, Some(recovery.clone())).unwrap();
        client
            .submit_recovery(MemberId(0), &recovery, certify)
            .await
    });
    assert_eq!(outcome.unwrap(), Outcome::Applied(Effect::Done));
    assert!(
        suspended.carried.load(Ordering::Relaxed) > 0,
        "it was asked"
    );
}
