//! The cryptographic parts on one core.

use std::hint::black_box;
use std::time::{Duration, Instant};

use barfs_crypto::{
    Codec, Key, SigningKey, hash, open_message, outboard, seal_message, stripe, verify_slice,
};

use super::Figures;
use crate::exit::{During, Exit, Outcome};

/// Each part is repeated at least so long.
const AT_LEAST: Duration = Duration::from_millis(400);
const MIB: usize = 1 << 20;

/// Seconds that one call of `work` takes, on average.
fn seconds(mut work: impl FnMut()) -> f64 {
    work();
    let (started, mut calls) = (Instant::now(), 0u32);
    while started.elapsed() < AT_LEAST {
        work();
        calls += 1;
    }
    started.elapsed().as_secs_f64() / f64::from(calls.max(1))
}

/// Runs all of it.
pub fn run(figures: &Figures) -> Outcome<()> {
    let message: Vec<u8> = (0..MIB).map(|i| (i * 7 % 251) as u8).collect();
    let key = Key::from_bytes([7; 32]);
    let mb_s = |bytes: usize, seconds: f64| bytes as f64 / 1e6 / seconds;
    let rate = |figure: &str, bytes: usize, seconds: f64| {
        figures.print(figure, mb_s(bytes, seconds), "MB/s")
    };

    rate(
        "crypto_seal_mb_s",
        MIB,
        seconds(|| drop(black_box(seal_message(&key, b"bench", &message)))),
    );
    let (id, sealed) = seal_message(&key, b"bench", &message);
    rate(
        "crypto_open_mb_s",
        MIB,
        seconds(|| drop(black_box(open_message(&key, &id, b"bench", &sealed)))),
    );
    rate(
        "crypto_hash_mb_s",
        MIB,
        seconds(|| {
            black_box(hash(&message));
        }),
    );
    rate(
        "crypto_outboard_mb_s",
        MIB,
        seconds(|| drop(black_box(outboard(&message)))),
    );
    slices(&message, &rate)?;

    for (k, m) in [(3, 2), (4, 2), (8, 4), (16, 8)] {
        erasure(k, m, &message, &rate)?;
    }
    let pack = message.repeat(4);
    rate(
        "crypto_stripe_4_2_mb_s",
        pack.len(),
        seconds(|| drop(black_box(stripe(&pack, 4, 2)))),
    );

    let signer = SigningKey::from_seed([9; 32]);
    let signature = signer.sign("bench", &message[..200]);
    let signing = seconds(|| {
        black_box(signer.sign("bench", &message[..200]));
    });
    let verifying = seconds(|| {
        drop(black_box(signer.id().verify(
            "bench",
            &message[..200],
            &signature,
        )))
    });
    figures.print("crypto_sign_us", signing * 1e6, "us");
    figures.print("crypto_verify_us", verifying * 1e6, "us");
    Ok(())
}

fn slices(message: &[u8], rate: &impl Fn(&str, usize, f64)) -> Outcome<()> {
    let (root, tree) = outboard(message);
    let range = 65536..131_072u64;
    let slice = barfs_crypto::encode_slice(message, &tree, range.clone())
        .during(Exit::Failed, "no slice")?;
    let len = message.len() as u64;
    let taken = seconds(|| drop(black_box(verify_slice(&root, len, range.clone(), &slice))));
    rate("crypto_verify_slice_mb_s", 65536, taken);
    Ok(())
}

fn erasure(k: usize, m: usize, shard: &[u8], rate: &impl Fn(&str, usize, f64)) -> Outcome<()> {
    let failed = "erasure coding does not work here";
    let codec = Codec::new(k, m).during(Exit::Failed, failed)?;
    let data: Vec<&[u8]> = vec![shard; k];
    let mut parity = vec![vec![0u8; shard.len()]; m];
    let taken = seconds(|| {
        let mut out: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        drop(black_box(codec.encode(&data, &mut out)));
    });
    rate(
        &format!("crypto_encode_{k}_{m}_mb_s"),
        k * shard.len(),
        taken,
    );
    let lost = m.min(k);
    let kept = data
        .iter()
        .skip(lost)
        .map(|shard| Some(shard.to_vec()))
        .chain(parity.iter().cloned().map(Some));
    let shards: Vec<Option<Vec<u8>>> = std::iter::repeat_n(None, lost).chain(kept).collect();
    // Copying the shards is not part of rebuilding them.
    let copying = seconds(|| drop(black_box(shards.clone())));
    let both = seconds(|| {
        let mut shards = shards.clone();
        drop(black_box(codec.reconstruct(&mut shards)));
    });
    rate(
        &format!("crypto_rebuild_{k}_{m}_mb_s"),
        k * shard.len(),
        (both - copying).max(1e-9),
    );
    Ok(())
}
