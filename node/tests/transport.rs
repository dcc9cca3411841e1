//! Both ends of a connection know the verified key of the other, and a wrong key is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use barfs::transport::endpoint::{connect, dialler, listen, peer_key};
use barfs::transport::frame::{FrameReader, Limits, send};
use barfs_crypto::SigningKey;
use bytes::Bytes;

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_learn_the_other_key() {
    let (server_key, client_key) = (
        SigningKey::from_seed([1; 32]),
        SigningKey::from_seed([2; 32]),
    );
    let mut server = listen(&server_key, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = server.local_addr().unwrap();
    let echo = tokio::spawn(async move {
        let mut connection = server.accept().await.unwrap();
        let seen = peer_key(&connection).unwrap();
        let (receive, mut answer) = connection
            .accept_bidirectional_stream()
            .await
            .unwrap()
            .unwrap()
            .split();
        let frame = FrameReader::new(receive, Limits::KNOWN)
            .expect::<u64>()
            .await
            .unwrap();
        send(&mut answer, &(frame.header + 1), frame.payload)
            .await
            .unwrap();
        answer.close().await.unwrap();
        seen
    });
    let client = dialler(&client_key, address).unwrap();
    let mut connection = connect(&client, address, Some(&server_key.id()))
        .await
        .unwrap();
    assert_eq!(peer_key(&connection).unwrap(), server_key.id());
    let (receive, mut ask) = connection
        .open_bidirectional_stream()
        .await
        .unwrap()
        .split();
    let payload = Bytes::from(vec![7u8; 3 << 20]);
    send(&mut ask, &41u64, payload.clone()).await.unwrap();
    let frame = FrameReader::new(receive, Limits::KNOWN)
        .expect::<u64>()
        .await
        .unwrap();
    assert_eq!((frame.header, frame.payload), (42, payload));
    assert_eq!(echo.await.unwrap(), client_key.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_than_the_wanted_one_is_refused() {
    let (server_key, client_key) = (
        SigningKey::from_seed([1; 32]),
        SigningKey::from_seed([2; 32]),
    );
    let server = listen(&server_key, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = server.local_addr().unwrap();
    let client = dialler(&client_key, address).unwrap();
    let wanted = SigningKey::from_seed([3; 32]).id();
    assert!(connect(&client, address, Some(&wanted)).await.is_err());
    // Without a wanted key any will do, and the caller learns which it was.
    let connection = connect(&client, address, None).await.unwrap();
    assert_eq!(peer_key(&connection).unwrap(), server_key.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_longer_than_the_limit_is_refused_before_it_is_read() {
    let (server_key, client_key) = (
        SigningKey::from_seed([1; 32]),
        SigningKey::from_seed([2; 32]),
    );
    let mut server = listen(&server_key, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = server.local_addr().unwrap();
    let reading = tokio::spawn(async move {
        let mut connection = server.accept().await.unwrap();
        let (receive, _answer) = connection
            .accept_bidirectional_stream()
            .await
            .unwrap()
            .unwrap()
            .split();
        FrameReader::new(receive, Limits::STRANGER)
            .expect::<u64>()
            .await
            .map(|frame| frame.header)
    });
    let client = dialler(&client_key, address).unwrap();
    let mut connection = connect(&client, address, Some(&server_key.id()))
        .await
        .unwrap();
    let (_receive, mut ask) = connection
        .open_bidirectional_stream()
        .await
        .unwrap()
        .split();
    send(&mut ask, &1u64, Bytes::from(vec![0u8; 1 << 20]))
        .await
        .unwrap();
    let refused = reading.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("too long"), "{refused}");
}
