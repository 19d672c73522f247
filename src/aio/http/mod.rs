//! A small HTTP/1.1 client: GET over http:// and https://, connections kept for each host.
//!
//! - `client`: requests; `line`: a connection, and a request on it; `together`: the two polled as
//!   one; `pool`: the connections that are kept; `clients`: those of one owner; `on_loop`:
//!   connections that are a loop's.
//!
//! Where a loop has a reactor all of a request is done on the loop's thread, but for names, for
//! connecting, and for large bodies that are coded.

pub mod client;
pub mod clients;
mod line;
#[cfg(unix)]
pub mod on_loop;
mod pool;
mod together;

use super::coding::{ACCEPTED, Undecodable, codings, decode};
use super::net::resolve::{NoAddress, Query, on_a_thread};
use super::runtime;
use crate::error::{AioError, Broken};
use client::{BoxError, Client, Failure};
use hyper::body::Bytes;
use hyper::header::PROXY_AUTHORIZATION;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, COOKIE, HeaderValue, LOCATION};
use hyper::rt::{Read, Write};
use hyper::{HeaderMap, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use line::{Io, LARGEST_HEAD};
use rustls::ClientConfig;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// How long the addresses of one family are tried before those of the other are tried too.
const HEAD_START: Duration = Duration::from_millis(250);

/// A body of so many bytes is decoded where it was received, a larger one on another thread.
const SMALL: usize = 4096;

const MOST_REDIRECTS: usize = 10;

pub struct Page {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub url: String,
}

/// What is asked for.
pub struct Wish {
    pub uri: Uri,
    pub headers: HeaderMap,
    /// Seconds for the whole of it.
    pub timeout: Option<f64>,
    /// The most bytes of a body.
    pub largest: Option<usize>,
    pub follow: bool,
}

/// Makes TCP connections, on tokio's threads.
pub fn connector() -> HttpConnector<Resolver> {
    let mut connector = HttpConnector::new_with_resolver(Resolver);
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector.set_happy_eyeballs_timeout(Some(HEAD_START));
    connector
}

/// A client by such connections; for https:// with TLS.
pub fn client<C>(tls: Arc<ClientConfig>, sockets: C) -> Arc<Client>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin,
{
    let mut tls = Arc::unwrap_or_clone(tls);
    tls.alpn_protocols.clear(); // the connector sets what this client speaks
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(sockets);
    Arc::new(Client::new(Box::new(move |uri| {
        let mut connector = connector.clone();
        Box::pin(async move {
            poll_fn(|context| connector.poll_ready(context)).await?;
            Ok(Box::new(connector.call(uri).await?) as Box<dyn Io>)
        })
    })))
}

/// Looks up names as streams do, so that both fail with the same errors.
#[derive(Clone)]
pub struct Resolver;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NoAddress;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoAddress>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoAddress>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let query = Query { host: Some(name.as_str().to_owned()), port: 0, family: 0, flags: 0 };
        Box::pin(async { Ok(on_a_thread(query).await?.into_iter()) })
    }
}

/// Checks a URL before anything is started.
pub fn parse(url: &str) -> Result<Uri, AioError> {
    let refuse = |reason: String| AioError::Url { url: url.to_owned(), reason };
    let uri: Uri = url.parse().map_err(|error| refuse(format!("not a URL: {error}")))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => {}
        _ => return Err(refuse("it must begin with http:// or https://".to_owned())),
    }
    if has_bad_port(&uri) {
        return Err(refuse("the port must be a number from 0 to 65535".to_owned()));
    }
    Ok(uri)
}

/// A port that is no number of 16 bits counts as none for `Uri`: the default would be taken.
fn has_bad_port(uri: &Uri) -> bool {
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else { return false };
    let place = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = place.strip_prefix(host).unwrap_or_default();
    !matches!(port, "" | ":") && uri.port().is_none()
}

/// Fetches one page.
pub async fn get(client: Arc<Client>, wish: Wish) -> Result<Page, AioError> {
    let (uri, timeout) = (wish.uri.clone(), wish.timeout);
    let mut fetch = pin!(follow(client, wish));
    let Some(seconds) = timeout else { return fetch.await };
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let mut timer = runtime::sleep(duration)?;
    poll_fn(|context| match fetch.as_mut().poll(context) {
        Poll::Pending => {
            let too_late = Pin::new(&mut timer).poll(context);
            too_late.map(|()| Err(AioError::Timeout { url: uri.to_string(), seconds }))
        }
        ready => ready,
    })
    .await
}

async fn follow(client: Arc<Client>, mut wish: Wish) -> Result<Page, AioError> {
    for _ in 0..=MOST_REDIRECTS {
        let page = fetch(&client, &wish).await?;
        let next = match (page.status, page.headers.get(LOCATION)) {
            (301 | 302 | 303 | 307 | 308, Some(location)) if wish.follow => {
                parse(&join(&wish.uri, &quoted(location.as_bytes())))?
            }
            _ => return Ok(page),
        };
        let same = |part: fn(&Uri) -> Option<&str>| part(&next) == part(&wish.uri);
        if !same(Uri::scheme_str) || next.authority() != wish.uri.authority() {
            for secret in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                wish.headers.remove(secret); // not for another host
            }
        }
        wish.uri = next;
    }
    let reason = format!("it is redirected more than {MOST_REDIRECTS} times");
    Err(AioError::Connection { url: wish.uri.to_string(), reason, cause: Broken::Otherwise })
}

/// What a URL can't have is quoted, as browsers do: some servers send letters as they are.
fn quoted(location: &[u8]) -> String {
    let mut quoted = String::with_capacity(location.len());
    for &byte in location.trim_ascii() {
        match byte {
            b'!'..=b'~' => quoted.push(char::from(byte)),
            other => quoted.push_str(&format!("%{other:02X}")),
        }
    }
    quoted
}

/// Where a `Location` leads to.
fn join(base: &Uri, location: &str) -> String {
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let (path, _) = location.split_once('#').unwrap_or((location, ""));
    if path.contains("://") && !path.starts_with(['/', '?']) {
        path.to_owned()
    } else if path.starts_with("//") {
        format!("{scheme}:{path}")
    } else if path.starts_with('/') {
        format!("{scheme}://{authority}{path}")
    } else if path.starts_with('?') {
        format!("{scheme}://{authority}{}{path}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{path}")
    }
}

async fn fetch(client: &Client, wish: &Wish) -> Result<Page, AioError> {
    let url = wish.uri.to_string();
    let decodes = !wish.headers.contains_key(ACCEPT_ENCODING); // else it is the caller's business
    let accepted = decodes.then(|| HeaderValue::from_static(ACCEPTED));
    let (head, body) = match client.fetch(&wish.uri, &wish.headers, accepted, wish.largest).await {
        Ok(answer) => answer,
        Err(Failure::TooLarge) => {
            return Err(AioError::TooLarge { url, largest: wish.largest.unwrap_or(usize::MAX) });
        }
        Err(Failure::Broken(error)) => return Err(failed(&url, &*error)),
    };
    let body = if decodes { decoded(&url, body, &head.headers, wish.largest).await? } else { body };
    Ok(Page { status: head.status.as_u16(), headers: head.headers, body, url })
}

async fn decoded(
    url: &str,
    body: Bytes,
    headers: &HeaderMap,
    largest: Option<usize>,
) -> Result<Bytes, AioError> {
    let codings = codings(headers);
    let outcome = if codings.is_empty() || body.len() <= SMALL {
        decode(body, &codings, largest)
    } else {
        runtime::spawn_blocking(move || decode(body, &codings, largest))?.await?
    };
    let url = url.to_owned();
    outcome.map_err(|error| match error {
        Undecodable::TooLarge(largest) => AioError::TooLarge { url, largest },
        Undecodable::Broken(coding, error) => {
            let reason =
                format!("the body is not what its Content-Encoding says: {coding:?}: {error}");
            AioError::Connection { url, reason, cause: Broken::Otherwise }
        }
    })
}

/// The innermost error says what went wrong; the outer ones only where.
fn failed(url: &str, error: &(dyn Error + 'static)) -> AioError {
    let (mut found, mut innermost) = (None, error);
    let mut next = Some(error);
    while let Some(layer) = next {
        (innermost, next) = (layer, layer.source());
        if let Some(name) = layer.downcast_ref::<NoAddress>() {
            found = Some(Broken::Name(name.clone()));
        } else if let Some(io) = layer.downcast_ref::<std::io::Error>() {
            found = cause_of(io).or(found);
        } else if layer.is::<hyper::Error>() && layer.to_string().contains("head is too large") {
            // hyper tells which parse error it was by its text alone.
            let url = url.to_owned();
            return AioError::HeadTooLarge { url, largest: LARGEST_HEAD };
        }
    }
    let reason = innermost.to_string();
    let reason = match reason.split(" (os error").next().unwrap_or_default() {
        "invalid content-length parsed" => "its Content-Length is no number of bytes".to_owned(),
        reason => reason.to_owned(),
    };
    AioError::Connection { url: url.to_owned(), reason, cause: found.unwrap_or(Broken::Otherwise) }
}

/// What an I/O error wraps is no source of it.
fn cause_of(error: &std::io::Error) -> Option<Broken> {
    if let Some(code) = error.raw_os_error() {
        return Some(Broken::Os(code));
    }
    let inner = error.get_ref()?;
    let tls = inner.downcast_ref::<rustls::Error>();
    tls.map(|tls| Broken::Tls(tls.clone()))
        .or_else(|| cause_of(inner.downcast_ref::<std::io::Error>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken() {
        assert!(parse("http://127.0.0.1:80/a?b=c").is_ok());
        assert!(parse("https://a/").is_ok());
        assert!(parse("http://u:p@[::1]:65535/").is_ok());
        assert!(parse("http://a:/").is_ok());
        for (url, part) in [
            ("ftp://a/", "must begin"),
            ("a b", "not a URL"),
            ("/x", "must begin"),
            ("http://a:65536/", "the port"),
            ("http://u:1@[::1]:99999/", "the port"),
        ] {
            let message = parse(url).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains(url), "{message}");
        }
    }

    #[test]
    fn locations_are_quoted() {
        assert_eq!(quoted("/caf\u{e9} au%20lait?a=b#c".as_bytes()), "/caf%C3%A9%20au%20lait?a=b#c");
        assert_eq!(quoted(b" /caf\xe9\t"), "/caf%E9");
    }

    #[test]
    fn locations_are_relative_to_the_page() {
        let base: Uri = "http://h:8/a/b?c".parse().unwrap();
        for (location, url) in [
            ("https://x/y#z", "https://x/y"),
            ("//x/y", "http://x/y"),
            ("/y?u=http://v/", "http://h:8/y?u=http://v/"),
            ("y", "http://h:8/a/y"),
            ("?d", "http://h:8/a/b?d"),
        ] {
            assert_eq!(join(&base, location), url);
        }
    }
}
