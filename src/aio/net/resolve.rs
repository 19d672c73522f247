//! Names to addresses, by the C library as everywhere else, on a thread of tokio's.

use crate::aio::runtime;
use crate::error::AioError;
use dns_lookup::{AddrInfoHints, getaddrinfo};
use socket2::{Domain, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};

#[cfg(unix)]
use libc::{EAI_AGAIN as AGAIN, EAI_NONAME as NO_NAME};
#[cfg(not(unix))]
const AGAIN: i32 = 11002; // Winsock's numbers
#[cfg(not(unix))]
const NO_NAME: i32 = 11001;

/// What to look up; 0 for a family or flags: any, none.
#[derive(Clone, Debug)]
pub struct Query {
    /// `None`: the local machine's addresses.
    pub host: Option<String>,
    pub port: u16,
    pub family: i32,
    pub flags: i32,
}

/// A name that has no address; `code` is one of `EAI_*`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}: {host:?}")]
pub struct NoAddress {
    pub host: String,
    pub code: i32,
    pub text: String,
}

/// An address in digits.
pub fn parse(host: &str, port: u16, family: i32) -> Option<SocketAddr> {
    let address: IpAddr = host.parse().ok()?;
    let kind = i32::from(if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 });
    (family == 0 || family == kind).then(|| SocketAddr::new(address, port))
}

/// Each address once, in the order of preference.
pub async fn resolve(query: Query) -> Result<Result<Vec<SocketAddr>, NoAddress>, AioError> {
    runtime::spawn(on_a_thread(query))?.await
}

/// The same, for who is on the runtime already.
pub async fn on_a_thread(query: Query) -> Result<Vec<SocketAddr>, NoAddress> {
    let host = query.host.clone().unwrap_or_default();
    let looked_up = tokio::task::spawn_blocking(move || look_up(&query)).await;
    looked_up.unwrap_or_else(|lost| Err(NoAddress { host, code: AGAIN, text: lost.to_string() }))
}

fn look_up(query: &Query) -> Result<Vec<SocketAddr>, NoAddress> {
    let refuse = |code: i32, text: String| {
        let text = text.replace("failed to lookup address information: ", "");
        NoAddress { host: query.host.clone().unwrap_or_default(), code, text }
    };
    let hints = AddrInfoHints {
        flags: query.flags,
        address: query.family,
        socktype: i32::from(Type::STREAM),
        protocol: 0,
    };
    let port = query.port.to_string();
    let found = getaddrinfo(query.host.as_deref(), Some(&port), Some(hints))
        .map_err(|error| refuse(error.error_num(), io::Error::from(error).to_string()))?;
    let mut addresses = Vec::new();
    for one in found.flatten() {
        if !addresses.contains(&one.sockaddr) {
            addresses.push(one.sockaddr);
        }
    }
    if addresses.is_empty() {
        return Err(refuse(NO_NAME, "it has no internet address".to_owned()));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(host: &str) -> Query {
        Query { host: Some(host.to_owned()), port: 80, family: 0, flags: 0 }
    }

    #[test]
    fn names_and_numbers() {
        let four = look_up(&query("127.0.0.1")).unwrap();
        assert_eq!(four, ["127.0.0.1:80".parse().unwrap()]);
        assert!(look_up(&query("localhost")).unwrap().iter().all(|one| one.ip().is_loopback()));
        let error = look_up(&query("no name")).unwrap_err();
        assert!(error.code != 0 && error.to_string().contains("no name"), "{error}");
    }
}
