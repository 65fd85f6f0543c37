//! Reasons why no connection to an upstream was made, for operators.

use std::{error::Error, io};

/// Cause of a failed connection. The texts of the errors are not passed on: they can contain addresses with credentials.
pub(super) fn connect_failure(error: &(dyn Error + 'static)) -> &'static str {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(reason) = reason_of(error) {
            return reason;
        }
        source = error.source();
    }
    "no connection"
}

fn reason_of(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => return Some("connection refused"),
            io::ErrorKind::ConnectionReset => return Some("connection reset"),
            io::ErrorKind::TimedOut => return Some("connect timed out"),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                return Some("no route to the host");
            }
            _ => {}
        }
    }
    if error.downcast_ref::<reqwest::Error>().is_some() {
        return None;
    }
    let text = error.to_string().to_lowercase();
    let contains = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if contains(&["dns error", "failed to lookup address"]) {
        Some("the name does not resolve (DNS)")
    } else if contains(&["certificate", "tls", "handshake", "corrupt message"]) {
        Some("the TLS handshake failed")
    } else if contains(&["timed out", "deadline has elapsed"]) {
        Some("connect timed out")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dezky_shared::platform::tls::TrustRoots;
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    async fn failure_of(url: &str) -> &'static str {
        let client = TrustRoots::default()
            .client_builder()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let error = client.get(url).send().await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
        connect_failure(&error)
    }

    #[tokio::test]
    async fn a_refused_connection_and_an_unknown_name_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);

        let refused = failure_of(&format!("http://{closed}/")).await;
        let unknown = failure_of("http://user:secret@nowhere.invalid/").await;

        assert_eq!(refused, "connection refused");
        assert_eq!(unknown, "the name does not resolve (DNS)");
    }

    #[tokio::test]
    async fn a_failed_handshake_is_one_of_tls() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        });

        let failure = failure_of(&format!("https://{address}/")).await;

        assert_eq!(failure, "the TLS handshake failed");
    }

    #[test]
    fn a_timeout_is_found_in_the_chain_of_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);

        let timed_out = Outer(io::ErrorKind::TimedOut.into());
        let other = Outer(io::ErrorKind::Other.into());

        assert_eq!(connect_failure(&timed_out), "connect timed out");
        assert_eq!(connect_failure(&other), "no connection");
    }
}
