//! Lingering close: reads the rest of the client's request before the connection is closed.
//!
//! Closing a connection with unread input resets it (RFC 9112, section 9.6), and a client that is reset while it sends
//! may lose the response that it has not read yet. The server therefore closes its direction first, and discards input
//! until the client closes the other one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Maximum time for which input is discarded.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A connection whose shutdown lingers.
#[derive(Debug)]
pub(super) struct LingeringClose<T> {
    stream: T,
    /// Set once the server's direction is closed.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> LingeringClose<T> {
    pub(super) fn new(stream: T) -> Self {
        Self {
            stream,
            timer: None,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringClose<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let timer = match &mut this.timer {
            Some(timer) => timer,
            timer @ None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                timer.insert(Box::pin(sleep(TIMEOUT)))
            }
        };
        let mut discarded = [0; 4096];
        while timer.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LingeringClose<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
