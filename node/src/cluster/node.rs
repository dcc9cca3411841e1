//! One node of a cluster: where it runs, and its data directory.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, PoisonError};

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

/// Ports of groups that this process has begun, held over TCP: the nodes use UDP. Between the drawing of a port and the start of its
/// node another group is kept from drawing it too, in whatever process.
static HELD: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());

/// Ports that nobody uses at this moment, all different.
fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    let mut sockets = Vec::new();
    for _ in 0..usize::from(PORTS.end - PORTS.start) {
        if sockets.len() == count {
            break;
        }
        let drawn = u16::from_le_bytes(random()?) % (PORTS.end - PORTS.start);
        let place = ("127.0.0.1", PORTS.start + drawn);
        // One that is taken, by others or by this loop, is passed over.
        if let (Ok(held), Ok(used)) = (TcpListener::bind(place), UdpSocket::bind(place)) {
            sockets.push((place.1, held, used));
        }
    }
    if sockets.len() < count {
        return Err(Failure::new(Exit::Failed, "too few free ports"));
    }
    let mut ports = Vec::new();
    let mut all_held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    for (port, held, _) in sockets {
        ports.push(port);
        all_held.push(held);
    }
    Ok(ports)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Nodes that were not started yet have their ports all the same.
    #[test]
    fn a_port_is_given_to_one_group_only() {
        let held = free_ports(50).unwrap();
        let taken = |port: &u16| UdpSocket::bind(("127.0.0.1", *port)).is_err();
        assert!(!held.iter().any(taken), "free for their nodes");
        for port in held {
            let again = TcpListener::bind(("127.0.0.1", port));
            assert!(again.is_err(), "held against other groups");
        }
    }
}
