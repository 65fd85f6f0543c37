//! Write timeout: closes the connection of a client that does not read its response.
//!
//! Until it is read, a response is held in memory. The client has to read all of it, or [`PROGRESS`] bytes, within the
//! timeout: a client that reads single bytes is as slow as one that reads none. A response that the connection has
//! taken as a whole also has a deadline.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::response_memory::Unsent;

/// Bytes that restart the timeout.
const PROGRESS: usize = 64 * 1024;

/// A connection with a write timeout.
#[derive(Debug)]
pub(super) struct SlowReaderTimeout<T> {
    stream: T,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// Whether a write is pending. Only then, the timer runs.
    is_pending: bool,
    /// Bytes written since the timer was started.
    written: usize,
    unsent: Unsent,
}

impl<T> SlowReaderTimeout<T> {
    pub(super) fn new(stream: T, timeout: Duration, unsent: Unsent) -> Self {
        Self {
            stream,
            timeout,
            timer: Box::pin(sleep(timeout)),
            is_pending: false,
            written: 0,
            unsent,
        }
    }

    /// Runs the timer while the result of a write is pending.
    fn limit(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = result {
            self.written += written.as_ref().copied().unwrap_or_default();
            if self.written >= PROGRESS {
                self.reset();
            }
            return Poll::Ready(written);
        }
        if !self.is_pending {
            self.is_pending = true;
            let timeout = Instant::now() + self.timeout;
            let deadline = self.unsent.deadline();
            let until = deadline.map_or(timeout, |deadline| deadline.min(timeout));
            self.timer.as_mut().reset(until);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read its response",
        )))
    }

    fn reset(&mut self) {
        self.is_pending = false;
        self.written = 0;
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for SlowReaderTimeout<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.limit(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes once all of its buffer is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        self.reset();
        self.unsent.written();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for SlowReaderTimeout<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::serve::quota::Quota;

    const LONG: Duration = Duration::from_mins(1);

    /// Writes 1 MB while the client reads 100 bytes every `pause`.
    async fn write_to(pause: Duration, timeout: Duration, unsent: Unsent) -> io::Result<()> {
        let (server, mut client) = duplex(1024);
        let mut server = SlowReaderTimeout::new(server, timeout, unsent);
        let reader = tokio::spawn(async move {
            while client.read_exact(&mut [0; 100]).await.is_ok() {
                sleep(pause).await;
            }
        });
        let result = async {
            server.write_all(&vec![0; 1 << 20]).await?;
            server.flush().await
        };
        let result = result.await;
        reader.abort();
        result
    }

    #[tokio::test]
    async fn a_client_must_read_64_kib_within_the_timeout() {
        let short = Duration::from_millis(100);

        let write_to = |pause, timeout| write_to(pause, timeout, Unsent::new(LONG));

        let slow = write_to(Duration::ZERO, LONG).await;
        let too_slow = write_to(Duration::from_millis(10), short).await;
        let stopped = write_to(Duration::from_hours(1), short).await;

        assert!(slow.is_ok(), "{slow:?}");
        for result in [too_slow, stopped] {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test]
    async fn a_response_that_is_taken_as_a_whole_must_be_read_by_its_deadline() {
        let unsent = Unsent::new(Duration::from_millis(100));
        unsent.taken(Quota::new(1, 1).acquire_anyway(None, 1));

        let result = write_to(Duration::from_millis(1), LONG, unsent).await;

        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
