//! Published test vectors, through the public functions.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_crypto::{
    CryptoError, Key, RecoverySecret, VrfPublic, derive, hash, keyed, open_random, outboard,
    seal_random,
};
use blst::BLST_ERROR::BLST_SUCCESS;
use blst::min_sig::{PublicKey, SecretKey, Signature};

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let mut bytes = [0; N];
    hex::decode_to_slice(hex, &mut bytes).unwrap();
    bytes
}

/// Length of the input (bytes 0, 1, ... 250, 0, ...), hash, keyed hash and derived key of the official file.
const BLAKE3: [(usize, &str, &str, &str); 4] = [
    (
        0,
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
        "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d",
    ),
    (
        1,
        "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
        "b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c",
    ),
    (
        1025,
        "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
        "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69",
        "effaa245f065fbf82ac186839a249707c3bddf6d3fdda22d1b95a3c970379bcb",
    ),
    (
        6145,
        "f1323a8631446cc50536a9f705ee5cb619424d46887f3c376c695b70e0f0507f",
        "9ac301e9e39e45e3250a7e3b3df701aa0fb6889fbd80eeecf28dbc6300fbc539",
        "379bcc61d0051dd489f686c13de00d5b14c505245103dc040d9e4dd1facab8e5",
    ),
];

#[test]
fn blake3_in_its_three_modes() {
    let key = Key::from_bytes(*b"whats the Elvish word for friend");
    for (len, plain, with_key, derived) in BLAKE3 {
        let input: Vec<u8> = (0..=250).cycle().take(len).collect();
        assert_eq!(hash(&input).to_hex(), plain, "{len}");
        assert_eq!(keyed(&key, &input).to_hex(), with_key, "{len}");
        assert_eq!(
            derive("BLAKE3 2019-12-27 16:29:52 test vectors context", &input).to_hex(),
            derived,
            "{len}"
        );
        assert_eq!(
            outboard(&input).0.to_hex(),
            plain,
            "the root of slices of {len} bytes"
        );
    }
}

/// draft-irtf-cfrg-xchacha, A.3.1.
#[test]
fn xchacha20_poly1305() {
    let key = Key::from_bytes(bytes(
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
    ));
    let nonce: [u8; 24] = bytes("404142434445464748494a4b4c4d4e4f5051525354555657");
    let aad: [u8; 12] = bytes("50515253c0c1c2c3c4c5c6c7");
    let message = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                    sunscreen would be it.";
    let sealed = seal_random(&key, nonce, &aad, message);
    let expected = "404142434445464748494a4b4c4d4e4f5051525354555657\
                    bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
                    731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
                    2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
                    21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49";
    assert_eq!(hex::encode(&sealed), expected);
    assert_eq!(open_random(&key, &aad, &sealed).unwrap(), message);
}

/// The 24-word English vectors of BIP39's reference implementation.
const PHRASES: [(&str, &str); 10] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
         abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art",
    ),
    (
        "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
        "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal \
         winner thank year wave sausage worth title",
    ),
    (
        "8080808080808080808080808080808080808080808080808080808080808080",
        "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic \
         avoid letter advice cage absurd amount doctor acoustic bless",
    ),
    (
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote",
    ),
    (
        "00ac97c48106f0aeb8ba061e0250a559b3251dc35854e694780ba51d53a50120",
        "absent gorilla van acoustic humor firm title dolphin bulk barely citizen recall crane moment aspect appear \
         track phrase actual enforce steel spoon afraid benefit",
    ),
    (
        "3edc83b60740d77af3afa2fcb82c2f1bc541ee4e2518ddef4996d32453f54a3c",
        "disagree tomato unique attend aspect runway solid violin witness scrap armed daring favorite warm decade \
         perfect target kid grant play early wide cigar night",
    ),
    (
        "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c",
        "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis \
         maple dilemma loan word shrug inflict delay length",
    ),
    (
        "9f6a2878b2520799a44ef18bc7df394e7061a224d2c33cd015b157d746869863",
        "panda eyebrow bullet gorilla call smoke muffin taste mesh discover soft ostrich alcohol speed nation flash \
         devote level hobby quick inner drive ghost inside",
    ),
    (
        "066dca1a2bb7e8a1db2832148ce9933eea0f3ac9548d793112d9a95c9407efad",
        "all hour make first leader extend hole alien behind guard gospel lava path output census museum junior mass \
         reopen famous sing advance salt reform",
    ),
    (
        "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f",
        "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol \
         group space point ten exist slush involve unfold",
    ),
];

#[test]
fn bip39_phrases_of_24_words() {
    for (entropy, phrase) in PHRASES {
        let secret = RecoverySecret::from_entropy(bytes(entropy));
        assert_eq!(*secret.words(), phrase);
        let read = RecoverySecret::from_words(phrase).unwrap();
        assert_eq!(
            read.wrapping_key().as_bytes(),
            secret.wrapping_key().as_bytes()
        );
        assert_eq!(read.signing_key().id(), secret.signing_key().id());

        let sloppy = format!("\n  {}\t", phrase.to_uppercase().replace(' ', " \r\n "));
        assert_eq!(
            *RecoverySecret::from_words(&sloppy).unwrap().words(),
            phrase
        );
    }
}

#[test]
fn a_bad_phrase_is_named() {
    let (_, phrase) = PHRASES[8];
    let error = |text: &str| RecoverySecret::from_words(text).map(|_| ()).unwrap_err();
    assert_eq!(error(""), CryptoError::PhraseLength { count: 0 });
    assert_eq!(
        error(phrase.strip_suffix(" reform").unwrap()),
        CryptoError::PhraseLength { count: 23 }
    );
    assert_eq!(
        error(&format!("{phrase} reform")),
        CryptoError::PhraseLength { count: 25 }
    );
    // A phrase of another length that BIP39 itself accepts.
    assert_eq!(
        error(&format!("{}about", "abandon ".repeat(11))),
        CryptoError::PhraseLength { count: 12 }
    );
    assert_eq!(
        error(&phrase.replace("all ", "al ")),
        CryptoError::PhraseWord { position: 1 }
    );
    assert_eq!(
        error(&phrase.replace("alien", "alién")),
        CryptoError::PhraseWord { position: 8 }
    );
    assert_eq!(
        error(&phrase.replace("reform", "rëform")),
        CryptoError::PhraseWord { position: 24 }
    );
    assert_eq!(
        error(&phrase.replace("hour make", "make hour")),
        CryptoError::PhraseChecksum
    );
    assert_eq!(
        error(&phrase.replace("reform", "zoo")),
        CryptoError::PhraseChecksum
    );
}

/// RFC 9380, J.9.1: message, x, y.
const RFC_9380_G1: [(&str, usize, &str, &str); 5] = [
    (
        "",
        0,
        "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
        "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265",
    ),
    (
        "abc",
        0,
        "03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
        "0b9c15f3fe6e5cf4211f346271d7b01c8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d",
    ),
    (
        "abcdef0123456789",
        0,
        "11e0b079dea29a68f0383ee94fed1b940995272407e3bb916bbf268c263ddd57a6a27200a784cbc248e84f357ce82d98",
        "03a87ae2caf14e8ee52e51fa2ed8eefe80f02457004ba4d486d6aa1f517c0889501dc7413753f9599b099ebcbbd2d709",
    ),
    (
        "q128_",
        128,
        "15f68eaa693b95ccb85215dc65fa81038d69629f70aeee0d0f677cf22285e7bf58d7cb86eefe8f2e9bc3f8cb84fac488",
        "1807a1d50c29f430b8cafc4f8638dfeeadf51211e1602a5f184443076715f91bb90a48ba1e370edce6ae1062f5e6dd38",
    ),
    (
        "a512_",
        512,
        "082aabae8b7dedb0e78aeb619ad3bfd9277a2f77ba7fad20ef6aabdc6c31d19ba5a6d12283553294c1825c4b3ca2dcfe",
        "05b84ae5a942248eea39e1d91030458c40153f3b654ab7872d779ad1e942856a20c438e8d99bc8abfbf74729ce1f7ac8",
    ),
];

/// The signature under the secret key 1 is the hashed point itself.
#[test]
fn hashing_to_the_curve_of_rfc_9380() {
    let mut one = [0; 32];
    one[31] = 1;
    let one = SecretKey::from_bytes(&one).unwrap();
    for (start, repeat, x, y) in RFC_9380_G1 {
        let message = format!("{start}{}", start[..start.len().min(1)].repeat(repeat));
        let tag = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";
        let point = one.sign(message.as_bytes(), tag, &[]);
        assert_eq!(hex::encode(point.serialize()), format!("{x}{y}"), "{start}");
    }
}

/// Round, its SHA-256 as 8 big-endian bytes, and the signature of drand's public network `quicknet`, whose
/// scheme `bls-unchained-g1-rfc9380` is the basic one of the draft with signatures in G1.
const QUICKNET: [(u64, &str, &str); 2] = [
    (
        1000,
        "f652498d092acd949bad74e40683bf3824fb817980504a0c7e6722cfc5a9c0a3",
        "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
    ),
    (
        1001,
        "ce43c3353a7ad7aac3408cad0bf921b6a7dda89be75d9cb2b3b5a152cefc8afd",
        "b33bf3667cbd5a82de3a24b4e0e9fe5513cc1a0e840368c6e31f5fcfa79bea03f73896b25883abf2853d10337fb8fa41",
    ),
];
const QUICKNET_KEY: &str = "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a";

#[test]
fn signatures_of_a_public_beacon() {
    let key = VrfPublic::from_bytes(&bytes(QUICKNET_KEY)).unwrap();
    assert_eq!(hex::encode(key.to_bytes()), QUICKNET_KEY);
    let key = PublicKey::key_validate(&key.to_bytes()).unwrap();
    let basic = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";
    let possession = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
    for (round, message, signature) in QUICKNET {
        let message: [u8; 32] = bytes(message);
        let point = Signature::sig_validate(&bytes::<48>(signature), true).unwrap();
        let result = point.verify(false, &message, basic, &[], &key, false);
        assert_eq!(result, BLST_SUCCESS, "{round}");
        let other = point.verify(false, &message, possession, &[], &key, false);
        assert_ne!(other, BLST_SUCCESS, "{round}");
    }
}

/// EIP-2333, test case 0: its master key is the draft's KeyGen of the seed.
#[test]
fn key_generation_of_eip_2333() {
    let seed: [u8; 64] = bytes(
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04",
    );
    assert_eq!(
        hex::encode(SecretKey::key_gen(&seed, &[]).unwrap().to_bytes()),
        "0d7359d57963ab8fbbde1852dcf553fedbc31f464d80ee7d40ae683122b45070"
    );
}
