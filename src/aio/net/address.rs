//! Addresses and their errors, as Python has them.

use super::errors::{no_address_error, tls_error};
use super::pipe::Fault;
use super::resolve::{NoAddress, Query, parse, resolve};
use crate::aio::awaitable::Awaitable;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use socket2::SockAddr;
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;

/// A tuple as of `getaddrinfo`, or a Unix socket's path as bytes.
pub fn parse_address(address: &Bound<'_, PyAny>) -> PyResult<SockAddr> {
    if let Ok(path) = address.cast::<PyBytes>() {
        return Ok(SockAddr::unix(OsStr::from_bytes(path.as_bytes()))?);
    }
    let parts = address.cast::<PyTuple>()?;
    let host: String = parts.get_item(0)?.extract()?;
    let (digits, _) = host.split_once('%').unwrap_or((&host, ""));
    let ip: IpAddr = digits
        .parse()
        .map_err(|_| PyValueError::new_err(format!("{host:?} is not an address in digits")))?;
    let port = parts.get_item(1)?.extract()?;
    let number = |index| parts.get_item(index).and_then(|one| one.extract::<u32>()).unwrap_or(0);
    Ok(match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, number(2), number(3)).into(),
    })
}

pub fn show_address<'py>(py: Python<'py>, address: &SockAddr) -> PyResult<Bound<'py, PyAny>> {
    Ok(match address.as_socket() {
        Some(SocketAddr::V4(four)) => {
            (four.ip().to_string(), four.port()).into_pyobject(py)?.into_any()
        }
        Some(SocketAddr::V6(six)) => {
            let (ip, port) = (six.ip().to_string(), six.port());
            (ip, port, six.flowinfo(), six.scope_id()).into_pyobject(py)?.into_any()
        }
        None => match (address.as_pathname(), address.as_abstract_namespace()) {
            (Some(path), _) => path.as_os_str().into_pyobject(py)?.into_any(),
            (None, Some(name)) => PyBytes::new(py, &[b"\0", name].concat()).into_any(),
            (None, None) => "".into_pyobject(py)?.into_any(),
        },
    })
}

/// asyncio's exception, with the address.
pub fn fault_error(
    py: Python<'_>,
    fault: &Fault,
    peer: Option<&SockAddr>,
    connecting: bool,
) -> PyErr {
    let shown = peer.and_then(|peer| show_address(py, peer).ok()?.repr().ok());
    let shown = shown.map(|shown| shown.to_string());
    match fault {
        Fault::Os { code, text } => {
            let message = match shown {
                Some(shown) if connecting => format!("Connect call failed {shown}: {text}"),
                Some(shown) => format!("{text}: {shown}"),
                None => text.clone(),
            };
            PyOSError::new_err((*code, message))
        }
        Fault::Tls(error) => {
            let at = shown.map(|shown| format!(" (connection with {shown})")).unwrap_or_default();
            let bad = matches!(error, rustls::Error::InvalidCertificate(_));
            let what = if bad { "certificate verify failed: " } else { "" };
            tls_error(py, error, &format!("{what}{error}{at}"))
        }
    }
}

/// A family and an address, as `socket` takes them.
type Place<'py> = (i32, Bound<'py, PyAny>);

fn show_places<'py>(py: Python<'py>, addresses: &[SocketAddr]) -> PyResult<Vec<Place<'py>>> {
    let shown = addresses.iter().map(|address| {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        Ok((family, show_address(py, &(*address).into())?))
    });
    shown.collect()
}

/// The address of a host that is given in digits, as `resolve_host` gives it.
#[pyfunction]
pub fn parse_host<'py>(
    py: Python<'py>,
    host: Option<&str>,
    port: u16,
    family: i32,
) -> PyResult<Option<Vec<Place<'py>>>> {
    let parsed = host.and_then(|host| parse(host, port, family));
    parsed.map(|address| show_places(py, &[address])).transpose()
}

/// Looks up a host's addresses: an awaitable of tuples `(family, address)`.
#[pyfunction]
pub fn resolve_host(host: Option<String>, port: u16, family: i32, flags: i32) -> Awaitable {
    Awaitable::of(async move {
        let found = resolve(Query { host, port, family, flags }).await?;
        Python::attach(|py| {
            let failed = |error: NoAddress| no_address_error(py, &error, &error.to_string());
            let places = show_places(py, &found.map_err(failed)?)?;
            Ok(PyList::new(py, places)?.into_any().unbind())
        })
    })
}
