//! The bytes of every encoded type. They are stored and sent by released programs: a change here is a
//! change of format and needs a new version, not a new golden value.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_crypto::{
    Digest, Key, MasterKey, MasterKeys, NodeId, RecoverySecret, Signature, SigningKey, VrfSecret,
    derive_parts, encode_slice, hash, open_key_file, outboard, prove, seal_key_file, seal_message,
    stripe,
};

fn encoded(value: &impl borsh::BorshSerialize) -> String {
    hex::encode(borsh::to_vec(value).unwrap())
}

#[test]
fn fixed_arrays_are_their_bytes() {
    assert_eq!(encoded(&Digest([1; 32])), "01".repeat(32));
    assert_eq!(encoded(&NodeId([2; 32])), "02".repeat(32));
    assert_eq!(encoded(&Signature([3; 64])), "03".repeat(64));
}

#[test]
fn signature() {
    let signer = SigningKey::from_seed([1; 32]);
    assert_eq!(
        signer.id().to_hex(),
        "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
    );
    assert_eq!(
        encoded(&signer.sign("golden", b"message")),
        "1e5bea9277cb63005e465f033fdb45cfb97f97bd1f95d565625163e8451f19f5d9ef6e084a263674a02814b787c3e2ff73faca64139df25dd604857bbbdae80f"
    );
}

#[test]
fn parts() {
    assert_eq!(
        derive_parts("golden", &[b"a", b"", b"bc"]).to_hex(),
        "5239188948fdaea1ce03c179b930a5b896a7db10b0a34cc5d3391ece18e80d0f"
    );
}

#[test]
fn sealed_message() {
    let (id, sealed) = seal_message(&Key::from_bytes([1; 32]), b"aad", b"message");
    assert_eq!(
        id.to_hex(),
        "f0574722070a34152047e9ef9a07ad3bc2c3dc0d5c9a74818252a5d5624d872d"
    );
    assert_eq!(
        hex::encode(sealed),
        "9828d69fe7edae70917a56c929cf1df2aea38d9bfaf7b6"
    );
}

#[test]
fn keys_of_a_recovery_secret() {
    let secret = RecoverySecret::from_entropy([1; 32]);
    assert_eq!(
        secret.signing_key().id().to_hex(),
        "117b3c250bc1933cf3afc74d224bcb267cb7a02d414321b5a414652680c599b9"
    );
    assert_eq!(
        hex::encode(secret.wrapping_key().as_bytes()),
        "f59c6beaad8d221c07391237291ce453e4ff24b8ba53459162fcf352ddbe0200"
    );
}

#[test]
fn wrapped_master_key() {
    let master = MasterKey::from_bytes([1; 32]);
    assert_eq!(
        hex::encode(master.subkey("golden").as_bytes()),
        "1bd03153502ce7b41c22053d92eaf516eb7e1988cf931ddb99b0b4fa89d4f18c"
    );
    let wrapped = MasterKeys::from(master).wrap(&Key::from_bytes([2; 32]), [3; 24], b"volume");
    assert_eq!(
        hex::encode(wrapped),
        "0303030303030303030303030303030303030303030303035c08205e3c523b86813286cf358e79f89870d2338f8ff1134fa8a10268d92555d39f14371d7986717397ca0b77bbae3f"
    );
}

#[test]
fn key_file() {
    let file = seal_key_file(b"passphrase", [1; 16], [2; 24], b"secret").unwrap();
    let golden = "42415246534b4559010000000100030000000100000001010101010101010101010101010101f21e18c07fa54e3e3cf2707980861f42f63a1b013757347888cf5da172b69e53020202020202020202020202020202020202020202020202b23abb0d57d876792a6ed592dcd684d28d2abf8f6bdf5da19d37da91314f7089b569a0af310980c250c759cc3b2f6a725942f1b1e374";
    assert_eq!(hex::encode(file), golden);
    assert_eq!(
        open_key_file(b"passphrase", &hex::decode(golden).unwrap())
            .unwrap()
            .as_slice(),
        b"secret"
    );
}

#[test]
fn stripe_root_and_proof() {
    let made = stripe(&[7; 300], 4, 2).unwrap();
    assert_eq!(made.shard_len, 128);
    assert_eq!(
        made.root.to_hex(),
        "7483b97d25b99a984f982897ad0be84f2f57d340859ca00adf81f313525ac9b7"
    );
    let parity: Vec<String> = made.hashes[4..].iter().map(Digest::to_hex).collect();
    assert_eq!(
        parity.join(" "),
        "05ba46b947da769ca47c3d97e0e1935e11012fe054d356313492110aefe58f9f 4bfd9f4c408c1eead85f7aaf30f95482c8d37b6630b15e5cebeda48ebbab3fca"
    );
    let proof = encoded(&prove(&made.hashes, 5).unwrap());
    assert_eq!(
        proof,
        "020000001f342c0db0c91e3ce6cda73780f6fb2cdf0e2360ac872f20aab03d8054415daabeeb7024a08643a0b15829a660d5e039da97d3a778363e8e122e0737adfde412"
    );
}

#[test]
fn outboard_and_slice() {
    let data: Vec<u8> = (0..=250).cycle().take(150_000).collect();
    let (root, outboard) = outboard(&data);
    assert_eq!(root, hash(&data));
    assert_eq!(
        encoded(&outboard),
        "800000009776ca1d775bf31fe48f4a16b59664dee3fc44930de332ba401db785580d3a8f935fce55ec2dc22e23442a1b8a87f297856b782e36dfb0f0db6f4e001a43695a88da791e722ac59740d9a44402e384ad99f1c79d4bab7449a0c2da1fafb91fb7b95e6f9f78dc8d0fc3b4cad524c9d921e84626eb2d72702d00809341b0f08771"
    );
    // Two pairs of hashes above the last block, then the block.
    let slice = encode_slice(&data, &outboard, 140_000..140_001).unwrap();
    assert_eq!(slice.len(), 64 + 150_000 - 131_072);
    assert_eq!(
        hash(&slice).to_hex(),
        "a272ee22b38ca05c1b0e590780611890fd71234b9fa20ea614152f4bf5c2ee4e"
    );
}

#[test]
fn random_function() {
    let secret = VrfSecret::from_seed(&[1; 32]).unwrap();
    let reveal = secret.prove("golden", b"message");
    let value = secret.public().verify("golden", b"message", &reveal);
    let shown = [
        hex::encode(borsh::to_vec(&secret.public()).unwrap()),
        hex::encode(borsh::to_vec(&reveal).unwrap()),
        value.unwrap().to_hex(),
        hex::encode(borsh::to_vec(&secret.prove_possession(b"owner")).unwrap()),
    ];
    assert_eq!(
        shown,
        [
            "9360e6fd7f18e01ffbe38079a3a646500177cd8fcb3ec71fae1614e265b45baa0f44422d34778fdb6d479707ed2e1ffc16ca2a5351480dd7474bc3e15ba5d59f2a6fc3b60db7439ed9395f491d8e3ea9f811d311f641a019b150636133ce9674",
            "8cadf4cd2057e62b6db673bb239dd72a0ab785151aa6e6a0b34a8e2dd9c648492ba7167d34ba96347ad56d07864b8559",
            "9179e95b93b545cd08391bac34dce4698295f448abb909309f6b7be19439f929",
            "8bcff9c356c95e5ca7975c1bafe7bb6bf4ef4874f3ed494c71264142d3b0715c19ec2503f477f0eebea08eb1ea2f74b8",
        ]
    );
}
