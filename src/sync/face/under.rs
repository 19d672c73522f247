//! The lock of a condition: plait's, or any other.

use super::PyLock;
use super::rlock::{PyRLock, holder, restore};
use crate::sync::lock::Lock;
use crate::sync::party::Party;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Arc;

pub struct Under {
    pub object: Py<PyAny>,
    /// The lock's engine; `None` for a lock that is not plait's.
    pub lock: Option<Arc<Lock>>,
}

/// What a lock has to be told to be taken as often as before.
pub enum Saved {
    Native(Party, u64),
    Foreign(Option<Py<PyAny>>),
}

pub fn not_owned(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("cannot {what} on un-acquired lock"))
}

/// As whom the caller holds the lock. Anybody holds one that belongs to nobody.
fn held(py: Python<'_>, lock: &Lock) -> PyResult<Option<Party>> {
    if lock.is_reentrant() { holder(py, lock) } else { Ok(lock.holder()) }
}

pub fn let_go(lock: &Lock) -> u64 {
    if lock.is_reentrant() {
        return lock.exit_all();
    }
    let _ = lock.release(); // it is held
    1
}

impl Under {
    pub fn new(py: Python<'_>, lock: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        let object = match lock {
            Some(lock) => lock,
            None => Bound::new(py, PyRLock::create())?.into_any(),
        };
        let lock = match (object.cast::<PyRLock>(), object.cast::<PyLock>()) {
            (Ok(lock), _) => Some(Arc::clone(lock.get().engine())),
            (_, Ok(lock)) => Some(Arc::clone(lock.get().engine())),
            _ => {
                object.getattr(intern!(py, "acquire"))?;
                object.getattr(intern!(py, "release"))?;
                None
            }
        };
        Ok(Self { object: object.unbind(), lock })
    }

    pub fn is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(lock) = &self.lock {
            return Ok(held(py, lock)?.is_some());
        }
        let object = self.object.bind(py);
        if let Some(is_owned) = object.getattr_opt(intern!(py, "_is_owned"))? {
            return is_owned.call0()?.is_truthy();
        }
        let free = object.call_method1(intern!(py, "acquire"), (false,))?;
        if free.is_truthy()? {
            object.call_method0(intern!(py, "release"))?;
            return Ok(false);
        }
        Ok(true)
    }

    pub fn save(&self, py: Python<'_>) -> PyResult<Saved> {
        if let Some(lock) = &self.lock {
            let owner = held(py, lock)?.ok_or_else(|| not_owned("wait"))?;
            // A lock that belongs to nobody comes back to the caller.
            let owner = if lock.is_reentrant() { owner } else { Party::this_thread() };
            return Ok(Saved::Native(owner, let_go(lock)));
        }
        let object = self.object.bind(py);
        Ok(Saved::Foreign(match object.getattr_opt(intern!(py, "_release_save"))? {
            Some(save) => Some(save.call0()?.unbind()),
            None => {
                object.call_method0(intern!(py, "release"))?;
                None
            }
        }))
    }

    pub fn restore(&self, py: Python<'_>, saved: Saved) -> PyResult<()> {
        let object = self.object.bind(py);
        match (saved, &self.lock) {
            (Saved::Native(party, times), Some(lock)) => restore(py, lock, party, times),
            (Saved::Foreign(Some(state)), _) => {
                object.call_method1(intern!(py, "_acquire_restore"), (state,)).map(drop)
            }
            _ => object.call_method0(intern!(py, "acquire")).map(drop),
        }
    }

    pub fn engine(&self, py: Python<'_>) -> PyResult<Arc<Lock>> {
        let kind = || self.object.bind(py).get_type().name().map(|name| name.to_string());
        match &self.lock {
            Some(lock) => Ok(Arc::clone(lock)),
            None => Err(PyTypeError::new_err(format!(
                "this condition's lock is a {}: coroutines cannot wait for it; \
                 give plait.Condition a plait.Lock or plait.RLock",
                kind()?
            ))),
        }
    }
}
