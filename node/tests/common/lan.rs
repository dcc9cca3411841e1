//! A small network in the test's own hand: each host is a network namespace with a TUN device, and this process carries
//! the packets between them.
//!
//! Fault model: it delays packets (by a fixed time and up to a jitter), loses some, and cuts hosts off, for as long as it
//! is told to. It never changes a packet, sends one twice, or lets one overtake another between the same two hosts. Needs
//! root.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use barfs::cluster::Place;

/// A packet and when it is due.
type Due = Reverse<(Instant, u64, usize, Vec<u8>)>;

#[derive(Default)]
struct Wire {
    queue: Mutex<BinaryHeap<Due>>,
    /// When the newest packet between two hosts is due.
    newest: Mutex<HashMap<(usize, usize), Instant>>,
    came: Condvar,
    cut: Mutex<Vec<bool>>,
    stop: AtomicBool,
    delay_micros: AtomicU64,
    jitter_micros: AtomicU64,
    loss_permille: AtomicU64,
    carried: AtomicU64,
    lost: AtomicU64,
    dice: AtomicU64,
}

/// See the module.
pub(crate) struct Lan {
    names: Vec<String>,
    wire: Arc<Wire>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(host + 1).unwrap())
}

fn ip(args: &[&str]) {
    let done = Command::new("ip")
        .args(args)
        .output()
        .expect("iproute2 is installed");
    assert!(done.status.success(), "ip {args:?}: {done:?}");
}

/// Opens the TUN device of a namespace, from a thread of its own that enters it and ends.
fn open_tun(name: &str) -> File {
    let namespace = File::open(format!("/run/netns/{name}")).unwrap();
    let opened = std::thread::spawn(move || {
        // SAFETY: only this thread changes its network namespace, and it ends right after.
        let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(entered, 0, "{}", std::io::Error::last_os_error());
        let tun = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .unwrap();
        // SAFETY: an all-zero `ifreq` is valid; name and flags are set below.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"tun0") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF takes a pointer to an `ifreq` (tun documentation of the kernel), which lives on.
        let set = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &request) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        tun
    });
    opened.join().unwrap()
}

impl Wire {
    fn die(&self, below: u64) -> u64 {
        // xorshift64*: any sequence will do.
        let step = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            Some(x ^ (x << 17))
        };
        let x = self
            .dice
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
            .unwrap();
        x % below.max(1)
    }

    fn take(&self, from: usize, packet: &[u8]) {
        // Destination of an IPv4 packet (RFC 791); others (neighbour discovery) are not carried.
        let Some(to) = packet.get(16..20).filter(|_| packet[0] >> 4 == 4) else {
            return;
        };
        let to = usize::from(to[3]).wrapping_sub(1);
        let cut = self.cut.lock().unwrap();
        let reaches = cut.get(to).is_some_and(|cut| !cut) && !cut[from];
        drop(cut);
        if !reaches || self.die(1000) < self.loss_permille.load(Ordering::Relaxed) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let jitter = self.die(self.jitter_micros.load(Ordering::Relaxed).max(1));
        let delay = self.delay_micros.load(Ordering::Relaxed) + jitter;
        let number = self.carried.fetch_add(1, Ordering::Relaxed);
        let mut due = Instant::now() + Duration::from_micros(delay);
        due = due.max(*self.newest.lock().unwrap().entry((from, to)).or_insert(due));
        self.newest.lock().unwrap().insert((from, to), due);
        self.queue
            .lock()
            .unwrap()
            .push(Reverse((due, number, to, packet.to_vec())));
        self.came.notify_one();
    }

    fn listen(&self, host: usize, mut tun: &File) {
        let mut packet = vec![0; 65536];
        while !self.stop.load(Ordering::Relaxed) {
            let mut poll = libc::pollfd {
                fd: tun.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid `pollfd`.
            if unsafe { libc::poll(&mut poll, 1, 100) } > 0
                && let Ok(len) = tun.read(&mut packet)
            {
                self.take(host, &packet[..len]);
            }
        }
    }

    fn deliver(&self, tuns: &[File]) {
        let mut queue = self.queue.lock().unwrap();
        while !self.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let wait = queue
                .peek()
                .map_or(Duration::from_millis(100), |Reverse((due, ..))| {
                    due.saturating_duration_since(now)
                });
            if wait.is_zero() {
                let Some(Reverse((_, _, to, packet))) = queue.pop() else {
                    continue;
                };
                drop(queue);
                // A host whose device is full loses the packet, as on any network.
                if (&tuns[to]).write_all(&packet).is_err() {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                queue = self.queue.lock().unwrap();
            } else {
                queue = self.came.wait_timeout(queue, wait).unwrap().0;
            }
        }
    }
}

impl Lan {
    /// A network of `count` hosts, without faults.
    pub(crate) fn new(count: usize) -> Self {
        let names: Vec<String> = (0..count)
            .map(|host| format!("barfs-{}-{host}", std::process::id()))
            .collect();
        let wire = Arc::new(Wire::default());
        wire.dice.store(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        *wire.cut.lock().unwrap() = vec![false; count];
        let mut tuns = Vec::new();
        for (host, name) in names.iter().enumerate() {
            ip(&["netns", "add", name]);
            tuns.push(open_tun(name));
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&[
                "-n",
                name,
                "addr",
                "add",
                &format!("{}/24", address(host)),
                "dev",
                "tun0",
            ]);
            ip(&["-n", name, "link", "set", "tun0", "up"]);
        }
        let tuns = Arc::new(tuns);
        let mut threads = Vec::new();
        for host in 0..count {
            let (wire, tuns) = (Arc::clone(&wire), Arc::clone(&tuns));
            threads.push(std::thread::spawn(move || wire.listen(host, &tuns[host])));
        }
        let delivering = Arc::clone(&wire);
        threads.push(std::thread::spawn(move || delivering.deliver(&tuns)));
        Self {
            names,
            wire,
            threads,
        }
    }

    /// Delays packets by `delay` and up to `jitter` more, and loses so many of a thousand.
    pub(crate) fn degrade(&self, delay: Duration, jitter: Duration, loss_permille: u64) {
        self.wire
            .delay_micros
            .store(delay.as_micros() as u64, Ordering::Relaxed);
        self.wire
            .jitter_micros
            .store(jitter.as_micros() as u64, Ordering::Relaxed);
        self.wire
            .loss_permille
            .store(loss_permille, Ordering::Relaxed);
    }

    /// Cuts a host off from all others, or connects it again.
    pub(crate) fn cut(&self, host: usize, off: bool) {
        self.wire.cut.lock().unwrap()[host] = off;
    }

    /// Packets that were carried, and lost.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let (carried, lost) = (&self.wire.carried, &self.wire.lost);
        (
            carried.load(Ordering::Relaxed),
            lost.load(Ordering::Relaxed),
        )
    }

    /// A place for a node on every host: scripts in `dir` run `exe` there, with what `env` says for that host.
    pub(crate) fn places(
        &self,
        exe: &Path,
        dir: &Path,
        env: impl Fn(usize) -> String,
    ) -> Vec<Place> {
        let place = |(host, name): (usize, &String)| {
            let script = dir.join(format!("on-{host}"));
            let (exe, env) = (exe.display(), env(host));
            let text =
                format!("#!/bin/sh\nexec nsenter --net=/run/netns/{name} env {env} {exe} \"$@\"\n");
            write_script(&script, &text);
            Place {
                exe: script,
                address: SocketAddr::from((address(host), 7100)),
            }
        };
        self.names.iter().enumerate().map(place).collect()
    }
}

fn write_script(path: &PathBuf, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.wire.stop.store(true, Ordering::Relaxed);
        self.wire.came.notify_all();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        for name in &self.names {
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}
