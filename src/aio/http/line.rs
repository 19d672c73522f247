//! One connection, and one request on it.
//!
//! A request drives its connection itself, on whatever thread it is polled: there is no task for
//! it beside.

use super::client::{BoxError, Failure};
use super::together::Together;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::http::response::Parts;
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Waker};

/// The most bytes that an answer's status and headers may have.
pub const LARGEST_HEAD: usize = 128 * 1024;

/// A connection's bytes.
pub trait Io: Read + Write + Unpin + Send {}

impl<T: Read + Write + Unpin + Send> Io for T {}

pub type Question = Request<Empty<Bytes>>;
pub type Answer = Result<(Parts, Bytes), Failure>;

/// A connection, and the way to ask by it.
pub struct Line {
    sender: SendRequest<Empty<Bytes>>,
    connection: Connection<Box<dyn Io>, Empty<Bytes>>,
}

impl Line {
    pub async fn new(io: Box<dyn Io>) -> Result<Self, BoxError> {
        let (sender, connection) = Builder::new().max_buf_size(LARGEST_HEAD).handshake(io).await?;
        Ok(Self { sender, connection })
    }

    /// Polls the connection; whether another request may be sent by it.
    pub fn is_usable(&mut self, waker: &Waker) -> bool {
        let polled = Pin::new(&mut self.connection).poll(&mut Context::from_waker(waker));
        polled.is_pending() && self.sender.is_ready()
    }

    /// `Err`: there was no answer.
    pub async fn ask(
        &mut self,
        request: Question,
        largest: Option<usize>,
    ) -> Result<Answer, TrySendError<Question>> {
        let Self { sender, connection } = self;
        let sent = sender.try_send_request(request);
        let mut answer = pin!(async { Ok(receive(sent.await?, largest).await) });
        let (together, mut is_over) = (Together::new(), false);
        poll_fn(move |context| {
            together.poll(context, |context| {
                is_over = is_over || Pin::new(&mut *connection).poll(context).is_ready();
                answer.as_mut().poll(context)
            })
        })
        .await
    }
}

async fn receive(response: Response<Incoming>, largest: Option<usize>) -> Answer {
    let (head, body) = response.into_parts();
    let limit = largest.unwrap_or(usize::MAX);
    if body.size_hint().lower() > limit as u64 {
        return Err(Failure::TooLarge);
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok((head, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLarge),
        Err(error) => Err(Failure::Broken(error)),
    }
}

/// Whether the server has closed a kept connection, as it may at any time, before it answered:
/// then a GET may be sent again.
pub fn is_stale<T>(error: &TrySendError<T>) -> bool {
    let cause = error.error();
    let broken = cause.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    error.message().is_some() || cause.is_incomplete_message() || broken.is_some()
}
