//! Connections that are made by tokio and used on a loop's own thread.

use super::Resolver;
use super::client::BoxError;
use crate::aio::net::reactor::Reactor;
use crate::aio::net::wire::WireEnd;
use crate::aio::runtime;
use crate::error::AioError;
use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_service::Service;

/// Names, and who answers first of several addresses, are tokio's business; what it has connected
/// then is the loop's.
pub struct OnLoop<W> {
    pub connector: HttpConnector<Resolver>,
    pub reactor: Arc<Reactor<W>>,
}

impl<W> Clone for OnLoop<W> {
    fn clone(&self) -> Self {
        Self { connector: self.connector.clone(), reactor: Arc::clone(&self.reactor) }
    }
}

impl<W: Send + 'static> Service<Uri> for OnLoop<W> {
    type Response = WireEnd<W>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<WireEnd<W>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context).map_err(BoxError::from)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, reactor) = (self.connector.call(uri), Arc::clone(&self.reactor));
        Box::pin(async move {
            let connected = runtime::spawn(async {
                let stream = connecting.await?.into_inner();
                Ok::<_, BoxError>(stream.into_std()?)
            });
            let stream = connected.map_err(told)?.await.map_err(told)??;
            Ok(WireEnd::new(&reactor, stream.into())?)
        })
    }
}

/// As an I/O error, if it is one.
fn told(error: AioError) -> BoxError {
    match error {
        AioError::Runtime(error) => error.into(),
        other => io::Error::other(other.to_string()).into(),
    }
}
