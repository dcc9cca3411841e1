//! What the verifiable random function costs on this machine, one core: `cargo run -p barfs-crypto --example vrf`.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use barfs_crypto::{VrfPublic, VrfReveal, VrfSecret, verify_reveals};

const CONTEXT: &str = "barfs example of the verifiable random function";

/// The shortest of several times of one run, in microseconds: what others do on the machine only adds.
fn micros<T>(mut work: impl FnMut() -> T) -> f64 {
    let one = || {
        let start = Instant::now();
        black_box(work());
        start.elapsed()
    };
    let best = std::iter::repeat_with(one).take(50).min();
    best.unwrap_or(Duration::MAX).as_secs_f64() * 1e6
}

fn main() -> Result<(), Box<dyn Error>> {
    let secret = VrfSecret::from_seed(&[1; 32])?;
    let public = secret.public();
    let bytes = public.to_bytes();
    let reveal = secret.prove(CONTEXT, b"epoch");
    let possession = secret.prove_possession(b"owner");
    public.verify(CONTEXT, b"epoch", &reveal)?;
    println!(
        "key from seed      {:8.0} us",
        micros(|| VrfSecret::from_seed(&[1; 32]))
    );
    println!("public key         {:8.0} us", micros(|| secret.public()));
    println!(
        "decode public key  {:8.0} us",
        micros(|| VrfPublic::from_bytes(&bytes))
    );
    println!(
        "prove              {:8.0} us",
        micros(|| secret.prove(CONTEXT, b"epoch"))
    );
    println!(
        "verify             {:8.0} us",
        micros(|| public.verify(CONTEXT, b"epoch", &reveal))
    );
    println!(
        "verify possession  {:8.0} us",
        micros(|| public.verify_possession(b"owner", &possession))
    );
    for count in [4u8, 7, 25, 100] {
        let mut reveals: Vec<(VrfPublic, VrfReveal)> = Vec::new();
        for seed in 0..count {
            let secret = VrfSecret::from_seed(&[seed; 32])?;
            reveals.push((secret.public(), secret.prove(CONTEXT, b"epoch")));
        }
        let time = micros(|| verify_reveals(CONTEXT, b"epoch", &reveals));
        let good = verify_reveals(CONTEXT, b"epoch", &reveals);
        if !good.iter().all(Result::is_ok) {
            return Err("an honest reveal was refused".into());
        }
        println!(
            "{count:3} together       {time:8.0} us, {:.0} us each",
            time / f64::from(count)
        );
        if let Some((_, reveal)) = reveals.first_mut() {
            *reveal = secret.prove(CONTEXT, b"another epoch");
        }
        let time = micros(|| verify_reveals(CONTEXT, b"epoch", &reveals));
        println!(
            "{count:3} with a bad one {time:8.0} us, {:.0} us each",
            time / f64::from(count)
        );
    }
    Ok(())
}
