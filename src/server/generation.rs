//! A configuration in force, with all that was opened, read and made for it. A reload puts another one in its place: what
//! goes on under the old one keeps it until it has come to its end, and a tunnel keeps none. httpd: a generation.

use super::kept::Kept;
use super::site::Site;
use super::tls::Workshop;
use super::turns::Turns;
use crate::config::Config;
use crate::log_writer::LogWriter;
use crate::net::tls::Validity;
use crate::route::url::BackendUrl;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

/// What a configuration brings with it. Nothing of it ever changes.
#[derive(Debug)]
pub(super) struct Generation {
    /// Counts those of this process from 1.
    pub(super) number: u64,
    /// When it was made, which is a moment before it is in force.
    pub(super) since: Instant,
    pub(super) config: Config,
    main_site: Arc<Site>,
    virtual_sites: Vec<Arc<Site>>,
    pub(super) turns: Turns,
    pub(super) kept: Kept,
    /// The certificates that were read, and the lines that name them.
    pub(super) certificates: Vec<(String, Validity)>,
}

impl Generation {
    /// Opens, reads and makes what `config` needs. What has been counted under the one `before` counts on.
    pub(super) fn open(
        config: Config,
        before: Option<&Self>,
        logs: &LogWriter,
        workshop: &mut Workshop,
    ) -> Result<Self, String> {
        let main_site = Site::open(&config.main, logs, workshop)?;
        let virtual_sites = config
            .virtual_hosts
            .iter()
            .map(|host| Site::open(host, logs, workshop))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            number: before.map_or(1, |before| before.number + 1),
            since: Instant::now(),
            main_site,
            virtual_sites,
            turns: Turns::new(&config, before.map(|before| &before.turns)),
            kept: Kept::new(config.max_request_workers),
            certificates: workshop.certificates.clone(),
            config,
        })
    }

    /// The main server's, then those of the virtual hosts.
    pub(super) fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        std::iter::once(&self.main_site).chain(&self.virtual_sites)
    }

    /// Whether a mapping of a host with this name, which logs name like that, leads to the backend of this URL.
    pub(super) fn leads(&self, host: &str, mapping: &str, url: &BackendUrl) -> bool {
        let mut hosts = self.config.hosts().filter(|it| *it.server_name == *host);
        hosts.any(|host| host.router.leads(mapping, url))
    }

    /// The site that serves what reached `local` for the `Host` that it named, if it did.
    pub(super) fn site_for(&self, local: SocketAddr, host: Option<&[u8]>) -> &Arc<Site> {
        let chosen = self.config.host_for(local, host);
        let is_chosen = |site: &&Arc<Site>| Arc::ptr_eq(&site.host, chosen);
        self.virtual_sites
            .iter()
            .find(is_chosen)
            .unwrap_or(&self.main_site)
    }
}

/// The one in force.
#[derive(Debug)]
pub(super) struct InForce {
    generation: RwLock<Arc<Generation>>,
    /// Its number, for those who only ask whether theirs still is.
    number: AtomicU64,
}

impl InForce {
    pub(super) fn new(generation: Generation) -> Self {
        Self {
            number: generation.number.into(),
            generation: RwLock::new(Arc::new(generation)),
        }
    }

    pub(super) fn get(&self) -> Arc<Generation> {
        // It is whole, whatever became of a thread that held the lock.
        let generation = self.generation.read();
        Arc::clone(&generation.unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is(&self, generation: &Generation) -> bool {
        self.number.load(Ordering::Acquire) == generation.number
    }

    /// Puts another one in force.
    pub(super) fn replace(&self, generation: Generation) {
        let number = generation.number;
        let mut generation = Arc::new(generation);
        {
            let mut current = self
                .generation
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *current, &mut generation);
        }
        self.number.store(number, Ordering::Release);
        // The last who had the old one lets it go: perhaps here, where nobody waits for the lock.
    }
}
