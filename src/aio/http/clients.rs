//! The clients that share their connections: one for each set of TLS settings.

use super::client::Client;
use crate::error::locked;
use hashbrown::HashMap;
use rustls::ClientConfig;
use std::sync::{Arc, Mutex};

const MOST: usize = 16;

/// The settings are kept too, so that their address stays theirs.
type Known = HashMap<usize, (Arc<ClientConfig>, Arc<Client>)>;

#[derive(Default)]
pub struct Clients {
    /// By the settings' address.
    known: Mutex<Known>,
}

impl Clients {
    /// The one for these settings, which `make` makes.
    pub fn get(
        &self,
        tls: &Arc<ClientConfig>,
        make: impl FnOnce(Arc<ClientConfig>) -> Arc<Client>,
    ) -> Arc<Client> {
        let key = Arc::as_ptr(tls).addr();
        let mut known = locked(&self.known);
        let mut old = HashMap::new();
        if known.len() >= MOST && !known.contains_key(&key) {
            old = std::mem::take(&mut *known); // requests that are under way keep theirs
        }
        let new = || (Arc::clone(tls), make(Arc::clone(tls)));
        let client = Arc::clone(&known.entry(key).or_insert_with(new).1);
        drop(known);
        drop(old); // after the lock: it may close connections
        client
    }

    /// Closes all connections that are kept.
    pub fn clear(&self) {
        let known = std::mem::take(&mut *locked(&self.known));
        known.values().for_each(|(_, client)| client.clear());
    }
}
