//! A small HTTP/1.1 client: GET over http://, connections kept alive for each host.

use crate::error::AioError;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{HeaderMap, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::error::Error;
use std::time::Duration;

pub type Client = hyper_util::client::legacy::Client<HttpConnector, Empty<Bytes>>;

pub struct Page {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub fn client() -> Client {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector)
}

/// Checks a URL before anything is started.
pub fn parse(url: &str) -> Result<Uri, AioError> {
    let refuse = |reason: String| AioError::Url { url: url.to_owned(), reason };
    let uri: Uri = url.parse().map_err(|error| refuse(format!("not a URL: {error}")))?;
    match uri.scheme_str() {
        Some("http") => Ok(uri),
        Some("https") => Err(refuse("https:// is not supported yet, only http://".to_owned())),
        _ => Err(refuse("the URL must begin with http://".to_owned())),
    }
}

/// Fetches one page; redirects are not followed. `limit`: seconds for the whole of it.
pub async fn get(client: Client, uri: Uri, limit: Option<f64>) -> Result<Page, AioError> {
    let url = uri.to_string();
    let fetch = fetch(client, uri);
    let Some(seconds) = limit else { return fetch.await };
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let in_time = tokio::time::timeout(duration, fetch).await;
    in_time.unwrap_or(Err(AioError::Timeout { url, seconds }))
}

async fn fetch(client: Client, uri: Uri) -> Result<Page, AioError> {
    let url = uri.to_string();
    let response = client.get(uri).await.map_err(|error| failed(&url, &error))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| failed(&url, &error))?.to_bytes();
    Ok(Page { status: head.status.as_u16(), headers: head.headers, body })
}

/// The innermost error says what went wrong; the outer ones only where.
fn failed(url: &str, error: &(dyn Error + 'static)) -> AioError {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let io = cause.downcast_ref::<std::io::Error>();
    let refused = io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
    AioError::Connection { url: url.to_owned(), reason: cause.to_string(), refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken() {
        assert!(parse("http://127.0.0.1:80/a?b=c").is_ok());
        for (url, part) in
            [("https://a/", "not supported yet"), ("a b", "not a URL"), ("/x", "begin")]
        {
            let message = parse(url).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains(url), "{message}");
        }
    }
}
