//! A device that asks for more than its share costs a node no more than that, and keeps nobody else from being answered.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use barfs::profile::Profile;
use barfs::store::ShardKey;
use barfs::transport::TransportError;
use barfs::transport::endpoint::{connect, dialler};
use barfs::transport::frame::{FrameReader, Limits, PAYLOAD_MAX, encode_prefix, send};
use barfs::transport::protocol::{Answer, PutShard, Request};
use barfs_crypto::{Digest, SigningKey};
use bytes::Bytes;
use common::Group;
use s2n_quic::Connection;

const MIB: usize = 1 << 20;

/// The device of the volume in `home`.
fn device(group: &Group, home: &Path, name: &str) -> SigningKey {
    let profile = Profile::open_dir(&home.join("volumes").join(name)).unwrap();
    let passphrase = std::fs::read(group.cluster.passphrase_file()).unwrap();
    profile.unlock(&passphrase).unwrap().1
}

async fn dial(key: &SigningKey, address: SocketAddr) -> Result<Connection, TransportError> {
    let client = dialler(key, address).unwrap();
    connect(&client, address, None).await
}

/// A connection over which the node has answered. One beyond a share is closed, before or after its handshake is told of.
async fn served(key: &SigningKey, address: SocketAddr) -> Result<Connection, TransportError> {
    let mut connection = dial(key, address).await?;
    health(&mut connection).await?;
    Ok(connection)
}

/// Asks a node how it does.
async fn health(connection: &mut Connection) -> Result<Answer, TransportError> {
    let broken = |cause: s2n_quic::connection::Error| TransportError::Broken(cause.to_string());
    let stream = connection
        .open_bidirectional_stream()
        .await
        .map_err(broken)?;
    let (receive, mut ask) = stream.split();
    send(&mut ask, &Request::Health, Bytes::new()).await?;
    let answer = FrameReader::new(receive, Limits::KNOWN).expect().await?;
    Ok(answer.header)
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// The beginning of a request to store the longest shard that there is.
fn announcement() -> Bytes {
    let put = PutShard {
        key: ShardKey {
            volume: barfs_replication::VolumeId([1; 16]),
            number: 1,
            index: 0,
        },
        root: Digest([0; 32]),
        k: 4,
        m: 2,
        hash: Digest([0; 32]),
        proof: borsh::from_slice(&[0; 4]).unwrap(),
    };
    encode_prefix(&Request::PutShard(put), PAYLOAD_MAX).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_never_end_fill_no_more_than_a_share_of_the_memory() {
    let group = Group::start(4);
    let other_home = group.path("other");
    group
        .cluster
        .create_volume(2, &other_home, "other")
        .unwrap();
    let address = group.cluster.nodes()[1].address;
    let greedy = device(&group, &group.home, "test");
    let pid = group.cluster.pid(1).unwrap();
    let before = resident(pid);

    // Two connections with sixty shards each, of which everything comes but the last bytes: two gibibytes.
    let mut sent = vec![];
    let mut connections = vec![];
    for _ in 0..2 {
        let mut connection = dial(&greedy, address).await.unwrap();
        for _ in 0..60 {
            let stream = connection.open_bidirectional_stream().await.unwrap();
            sent.push(tokio::spawn(async move {
                let mut stream = stream;
                stream.send(announcement()).await?;
                for _ in 0..PAYLOAD_MAX / MIB - 1 {
                    stream.send(vec![0; MIB].into()).await?;
                }
                std::future::pending::<Result<(), s2n_quic::stream::Error>>().await
            }));
        }
        connections.push(connection);
    }
    let mut modest = dial(&device(&group, &other_home, "other"), address)
        .await
        .unwrap();
    let (started, mut most, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while started.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        let answer = health(&mut modest).await.unwrap();
        assert!(matches!(answer, Answer::Health(_)), "{answer:?}");
        slowest = slowest.max(asked.elapsed());
        most = most.max(resident(pid).saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sent.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(most > 32 * MIB, "only {most} bytes came: nothing was tried");
    // Its share, what two connections hold that nobody reads, and as much again for what allocators keep.
    assert!(most < 256 * MIB, "{} MiB of memory were taken", most / MIB);
    assert!(
        slowest < Duration::from_secs(8),
        "another one waited {slowest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_a_share_are_refused_until_others_end() {
    let group = Group::start(4);
    let address = group.cluster.nodes()[1].address;
    let greedy = device(&group, &group.home, "test");
    let mut open = vec![];
    let refused = loop {
        match served(&greedy, address).await {
            Ok(connection) => open.push(connection),
            Err(cause) => break cause,
        }
        assert!(open.len() < 100, "there is no end");
    };
    assert!(
        open.len() >= 8,
        "{} connections, then {refused}",
        open.len()
    );
    let other = SigningKey::from_seed([9; 32]);
    let mut other = dial(&other, address).await.unwrap();
    let answer = health(&mut other).await.unwrap();
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    drop(open);
    let started = Instant::now();
    while let Err(cause) = served(&greedy, address).await {
        assert!(started.elapsed() < Duration::from_secs(10), "{cause}");
    }
}
