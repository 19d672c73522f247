//! Requests.

use super::line::{Answer, Question, is_stale};
use super::pool::{Connect, Pool};
use http_body_util::Empty;
use hyper::header::{ACCEPT_ENCODING, HOST, HeaderValue};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{HeaderMap, Request, Uri};
use std::error::Error;
use std::sync::Arc;

pub type BoxError = Box<dyn Error + Send + Sync>;

/// What went wrong with a request.
pub enum Failure {
    /// The body has more bytes than it may.
    TooLarge,
    Broken(BoxError),
}

pub struct Client {
    pool: Arc<Pool>,
}

impl Client {
    pub fn new(connect: Connect) -> Self {
        Self { pool: Pool::new(connect) }
    }

    /// Sends one request, and gets the whole answer. `accepted`: codings of the body.
    pub async fn fetch(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        accepted: Option<HeaderValue>,
        largest: Option<usize>,
    ) -> Answer {
        let nowhere = || Failure::Broken("the URL has no scheme or host".into());
        let scheme = uri.scheme().cloned().ok_or_else(nowhere)?;
        let place = (scheme, uri.authority().cloned().ok_or_else(nowhere)?);
        loop {
            let request = request(uri, headers, accepted.clone())
                .map_err(|error| Failure::Broken(error.into()))?;
            let (mut line, is_new) = match self.pool.take(&place) {
                Some(line) => (line, false),
                None => self.pool.wait(&place, uri).await.map_err(Failure::Broken)?,
            };
            match line.ask(request, largest).await {
                Ok(answer) => {
                    if answer.is_ok() {
                        self.pool.keep(place, line);
                    }
                    return answer;
                }
                Err(error) if !is_new && is_stale(&error) => {} // the next one, or a new one
                Err(error) => return Err(Failure::Broken(error.into_error().into())),
            }
        }
    }

    /// Closes all connections that are kept.
    pub fn clear(&self) {
        self.pool.clear();
    }
}

fn request(
    uri: &Uri,
    headers: &HeaderMap,
    accepted: Option<HeaderValue>,
) -> Result<Question, hyper::http::Error> {
    let mut request = Request::new(Empty::new());
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers.clone();
    if let Some(accepted) = accepted {
        request.headers_mut().insert(ACCEPT_ENCODING, accepted);
    }
    if !headers.contains_key(HOST) {
        let host = uri.host().unwrap_or_default();
        let usual = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let host = match uri.port_u16() {
            Some(port) if port != usual => HeaderValue::try_from(format!("{host}:{port}"))?,
            _ => HeaderValue::from_str(host)?,
        };
        request.headers_mut().insert(HOST, host);
    }
    Ok(request)
}
