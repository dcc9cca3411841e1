//! One node of a cluster: where it runs, and its data directory.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Child;

use super::{must, text};
use crate::exit::{Exit, Failure, Outcome};
use crate::profile::random;

/// Where a node is to run.
#[derive(Clone, Debug)]
pub struct Place {
    /// The program, or a script that runs it there.
    pub exe: PathBuf,
    /// Where the node listens.
    pub address: SocketAddr,
}

/// One node of the cluster.
pub struct NodeProcess {
    pub(super) exe: PathBuf,
    /// Its data directory.
    pub dir: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its member's 24 words.
    pub phrase_file: PathBuf,
    pub(super) child: Option<Child>,
}

/// Where ports are drawn from: below those that the system gives to whoever asks for any (ip(7),
/// `ip_local_port_range`), so that none is taken between the drawing and the start of its node.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Ports that nobody uses at this moment, all different.
fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    let mut sockets: Vec<(u16, UdpSocket)> = Vec::new();
    for _ in 0..usize::from(PORTS.end - PORTS.start) {
        if sockets.len() == count {
            break;
        }
        let drawn = u16::from_le_bytes(random()?) % (PORTS.end - PORTS.start);
        let port = PORTS.start + drawn;
        // One that is taken, by others or by this loop, is passed over.
        if let Ok(socket) = UdpSocket::bind(("127.0.0.1", port)) {
            sockets.push((port, socket));
        }
    }
    if sockets.len() < count {
        return Err(Failure::new(Exit::Failed, "too few free ports"));
    }
    Ok(sockets.into_iter().map(|(port, _)| port).collect())
}

/// Places on loopback, at ports that nobody uses.
pub(super) fn loopback(exe: &Path, count: usize) -> Outcome<Vec<Place>> {
    let place = |port| Place {
        exe: exe.to_owned(),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
    };
    Ok(free_ports(count)?.into_iter().map(place).collect())
}

impl NodeProcess {
    /// Makes a node with `barfs node init`.
    pub(super) fn init(place: Place, dir: &Path, index: usize, pledge: u64) -> Outcome<Self> {
        let node = Self {
            exe: place.exe,
            dir: dir.join(format!("node{index}")),
            address: place.address,
            phrase_file: dir.join(format!("words{index}")),
            child: None,
        };
        let (at, listen, words) = (
            text(&node.dir),
            node.address.to_string(),
            text(&node.phrase_file),
        );
        let (name, pledge) = (format!("member{index}"), pledge.to_string());
        let args = [
            "node",
            "init",
            "--dir",
            &at,
            "--listen",
            &listen,
            "--name",
            &name,
            "--pledge",
            &pledge,
            "--phrase-file",
            &words,
        ];
        must(&node.exe, dir, &args)?;
        Ok(node)
    }
}
