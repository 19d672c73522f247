//! Functions that a pool's workers already have, and whether they are still the same.

use super::defined::Defined;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyString};
use std::collections::HashMap;
use std::sync::Arc;

/// Something that a function's pickle was made from, and where it was found.
enum Part {
    /// A global: its namespace, its name, its value if it had one.
    Global(Py<PyDict>, Py<PyString>, Option<Py<PyAny>>),
    /// A member of a class: its namespace, read-only, its name.
    Member(Py<PyAny>, Py<PyString>, Option<Py<PyAny>>),
    /// What a function has itself: code, defaults, keyword defaults. Pointers may be null.
    Function(Py<PyFunction>, [Option<Py<PyAny>>; 3]),
    /// A closure's cell.
    Cell(Py<PyAny>, Option<Py<PyAny>>),
}

/// A part as Python tells it.
type Told<'py> = (Bound<'py, PyAny>, Option<Py<PyString>>, Vec<Py<PyAny>>);

/// The parts of a function that was sent by value, by identity. What changes inside of a part,
/// such as a list, is not seen.
#[pyclass(frozen)]
#[derive(Default)]
pub struct Watch {
    parts: Vec<Part>,
}

#[pymethods]
impl Watch {
    /// Each a tuple of a place (a dict of globals, a class's namespace, a cell, or a function),
    /// a name (None for a cell or a function) and a tuple of the value, or an empty one if there
    /// is none; of a function, its code is looked at, its defaults and its keyword defaults.
    #[new]
    #[pyo3(signature = (parts: "list[tuple[object, str | None, tuple[object, ...]]]"))]
    fn new(parts: Vec<Told<'_>>) -> Self {
        let parts = parts.into_iter().map(|(place, name, mut value)| {
            if let Ok(function) = place.cast::<PyFunction>() {
                return Part::Function(function.clone().unbind(), members(function));
            }
            let value = value.pop();
            let Some(name) = name else { return Part::Cell(place.unbind(), value) };
            match place.cast::<PyDict>() {
                Ok(globals) => Part::Global(globals.clone().unbind(), name, value),
                Err(_) => Part::Member(place.unbind(), name, value),
            }
        });
        Self { parts: parts.collect() }
    }

    /// Whether each part is where it was.
    pub fn holds(&self, py: Python<'_>) -> bool {
        let same = |found: Option<Bound<'_, PyAny>>, value: &Option<Py<PyAny>>| {
            found.map_or(std::ptr::null_mut(), |found| found.as_ptr())
                == value.as_ref().map_or(std::ptr::null_mut(), Py::as_ptr)
        };
        self.parts.iter().all(|part| match part {
            Part::Global(globals, name, value) => {
                globals.bind(py).get_item(name).is_ok_and(|found| same(found, value))
            }
            Part::Member(members, name, value) => same(members.bind(py).get_item(name).ok(), value),
            Part::Function(function, were) => {
                let are = members(function.bind(py));
                are.iter()
                    .zip(were)
                    .all(|(is, was)| same(is.as_ref().map(|is| is.bind(py).clone()), was))
            }
            Part::Cell(cell, value) => same(contents(cell.bind(py)), value),
        })
    }
}

/// A function's code, defaults and keyword defaults.
#[allow(unsafe_code, reason = "PyO3 has no bindings for these")]
fn members(function: &Bound<'_, PyFunction>) -> [Option<Py<PyAny>>; 3] {
    let (py, function) = (function.py(), function.as_ptr());
    let borrow = |pointer| {
        // SAFETY: attached; what the getters give is borrowed from the function, or null.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, pointer).map(Bound::unbind) }
    };
    // SAFETY: attached, and it is a function.
    unsafe {
        [
            borrow(ffi::PyFunction_GetCode(function)),
            borrow(ffi::PyFunction_GetDefaults(function)),
            borrow(ffi::PyFunction_GetKwDefaults(function)),
        ]
    }
}

#[allow(unsafe_code, reason = "PyO3 has no binding for a cell's contents")]
fn contents<'py>(cell: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: attached. PyCell_Get gives a new reference, or null for an empty cell; for what
    // is no cell it raises, and the exception is taken.
    unsafe {
        let found = ffi::PyCell_Get(cell.as_ptr());
        let found = Bound::from_owned_ptr_or_opt(cell.py(), found);
        if found.is_none() {
            PyErr::take(cell.py());
        }
        found
    }
}

/// A function that was defined in the pool.
pub struct Known {
    /// Kept, so that its address is not another one's.
    #[allow(dead_code, reason = "it is there to be kept")]
    function: Py<PyAny>,
    defined: Arc<Defined>,
    watch: Option<Py<Watch>>,
    /// When it was asked for last, in questions.
    used: u64,
}

/// How many are known at most: programs make functions without end, such as lambdas in a loop.
const MOST: usize = 256;

#[derive(Default)]
pub struct KnownFunctions {
    by_address: HashMap<usize, Known>,
    questions: u64,
}

impl KnownFunctions {
    /// If it is known and has not changed.
    pub fn find(&mut self, function: &Bound<'_, PyAny>) -> Option<Arc<Defined>> {
        self.questions += 1;
        let known = self.by_address.get_mut(&(function.as_ptr() as usize))?;
        known.used = self.questions;
        let holds = |watch: &Py<Watch>| watch.get().holds(function.py());
        known.watch.as_ref().is_none_or(holds).then(|| Arc::clone(&known.defined))
    }

    /// Notes one; what is known no longer, to be dropped where Python code may run.
    pub fn insert(
        &mut self,
        function: &Bound<'_, PyAny>,
        defined: &Arc<Defined>,
        watch: Option<Py<Watch>>,
    ) -> Vec<Known> {
        let (defined, used) = (Arc::clone(defined), self.questions);
        let known = Known { function: function.clone().unbind(), defined, watch, used };
        let old = self.by_address.insert(function.as_ptr() as usize, known);
        let mut gone = Vec::from_iter(old);
        if self.by_address.len() > MOST {
            let mut used: Vec<u64> = self.by_address.values().map(|known| known.used).collect();
            let (_, median, _) = used.select_nth_unstable(MOST / 2);
            let rare = self.by_address.extract_if(|_, known| known.used < *median);
            gone.extend(rare.map(|(_, known)| known));
        }
        gone
    }
}
