//! Secrets are wiped: what is freed holds none of them, and what holds them wipes itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::needs_drop;
use std::sync::atomic::{AtomicUsize, Ordering};

use barfs_crypto::{
    Key, MasterKey, MasterKeys, RecoverySecret, SigningKey, VrfSecret, open_key_file, seal_key_file,
};
use zeroize::ZeroizeOnDrop;

/// The secret of the tests, and the beginning of the words that stand for it.
const SECRET: [u8; 32] = *b"\xb5a secret that nobody may leave\xd3";
const WORDS: &[u8] = b"rely animal";
/// Working memory of this size and more has to be wiped whole.
const LARGE: usize = 4 << 20;

static SECRETS_FREED: AtomicUsize = AtomicUsize::new(0);
static LARGE_FREED: AtomicUsize = AtomicUsize::new(0);
static LARGE_FREED_DIRTY: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which looks through all that is given back.
struct Watching;

// SAFETY: all work is the system allocator's, with the caller's arguments; before memory is given back it is
// only read, within its layout.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system allocator wants. Zeroed, so that looking
        // through it later reads nothing uninitialised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back a whole allocation of this layout, zeroed when it was made.
        let bytes = unsafe { std::slice::from_raw_parts(start, layout.size()) };
        look_through(bytes);
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

fn look_through(bytes: &[u8]) {
    if bytes.len() >= LARGE {
        LARGE_FREED.fetch_add(1, Ordering::Relaxed);
        if bytes.iter().any(|byte| *byte != 0) {
            LARGE_FREED_DIRTY.fetch_add(1, Ordering::Relaxed);
        }
    } else if holds(bytes, &SECRET[..16]) || holds(bytes, WORDS) {
        SECRETS_FREED.fetch_add(1, Ordering::Relaxed);
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// One test, because the counts are the process's.
#[test]
fn nothing_secret_is_freed() {
    // The watch sees what it should.
    drop(SECRET.to_vec());
    drop([b"... ", WORDS].concat());
    assert_eq!(SECRETS_FREED.swap(0, Ordering::Relaxed), 2);
    drop(vec![1u8; LARGE]);
    assert_eq!(LARGE_FREED_DIRTY.swap(0, Ordering::Relaxed), 1);
    LARGE_FREED.store(0, Ordering::Relaxed);

    let file = seal_key_file(b"passphrase", [1; 16], [2; 24], &SECRET).unwrap();
    let opened = open_key_file(b"passphrase", &file).unwrap();
    assert_eq!(opened.as_slice(), SECRET);
    drop(opened);
    assert!(open_key_file(b"other", &file).is_err());
    assert_eq!(LARGE_FREED.load(Ordering::Relaxed), 3, "Argon2's memory");
    assert_eq!(LARGE_FREED_DIRTY.load(Ordering::Relaxed), 0);

    let master = MasterKeys::from(MasterKey::from_bytes(SECRET));
    let wrapped = master.wrap(&Key::from_bytes([1; 32]), [2; 24], b"volume");
    let unwrapped = MasterKeys::unwrap(&Key::from_bytes([1; 32]), b"volume", &wrapped).unwrap();
    assert_eq!(unwrapped.first().as_bytes(), &SECRET);
    drop(Box::new(unwrapped));
    drop(Box::new(Key::from_bytes(SECRET)));

    let recovery = RecoverySecret::from_entropy(SECRET);
    let words = recovery.words();
    assert!(holds(words.as_bytes(), WORDS), "{}", *words);
    drop(Box::new(RecoverySecret::from_words(&words).unwrap()));
    drop(words);
    drop(Box::new(recovery));

    drop(Box::new(SigningKey::from_seed(SECRET)));
    assert_eq!(
        SigningKey::from_seed(SECRET).seed().as_slice(),
        SECRET.as_slice()
    );
    assert_eq!(SECRETS_FREED.load(Ordering::Relaxed), 0);
}

fn wipes_itself<T: ZeroizeOnDrop>() {}

/// Features of the libraries that are off unless asked for. Compiling is the test.
#[test]
fn the_libraries_wipe_their_keys() {
    wipes_itself::<Key>();
    wipes_itself::<MasterKey>();
    wipes_itself::<RecoverySecret>();
    wipes_itself::<ed25519_dalek::SigningKey>();
    wipes_itself::<bip39::Mnemonic>();
    wipes_itself::<chacha20poly1305::ChaCha20Poly1305>();
    wipes_itself::<chacha20poly1305::XChaCha20Poly1305>();
    // These promise it by a destructor only.
    assert!(needs_drop::<VrfSecret>() && needs_drop::<SigningKey>());
}
