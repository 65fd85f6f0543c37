//! The proxy between a process and its store.

use std::time::Duration;

use dezky_sim::proxy::Proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const DEADLINE: Duration = Duration::from_secs(10);

/// A server that returns what it receives.
async fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn receive(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 100];
    let length = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn only_the_client_that_names_itself_so_loses_the_server() {
    let proxy = Proxy::to(&echo_server().await).await.unwrap();
    let mut lost = TcpStream::connect(proxy.address).await.unwrap();
    let mut other = TcpStream::connect(proxy.address).await.unwrap();
    lost.write_all(b"I am worker-1").await.unwrap();
    other.write_all(b"I am worker-2").await.unwrap();
    let greetings = [receive(&mut lost).await, receive(&mut other).await];

    proxy.hold_for("worker-1");
    lost.write_all(b"held").await.unwrap();
    let is_held = async {
        while proxy.hits() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, is_held).await.unwrap();
    other.write_all(b"passes").await.unwrap();
    let passed = receive(&mut other).await;
    let received_while_held = lost.try_read(&mut [0; 100]).is_ok();
    proxy.mend();
    let received_later = receive(&mut lost).await;

    assert_eq!(greetings, ["I am worker-1", "I am worker-2"]);
    assert_eq!(passed, "passes");
    assert!(!received_while_held);
    assert_eq!(received_later, "held");
}
