//! TLS of one listener: built once, swapped whole when its files change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::SingleCertAndKey;
use weir_config::{ListenerTls, TlsVersion};
use weir_logic::Millis;

use super::certificates::{self, CertificateError, Loaded};
use crate::metrics::Metrics;

/// The TLS that a listener speaks now.
pub(super) struct Tls {
    listener: String,
    settings: ListenerTls,
    http2: bool,
    current: ArcSwap<Current>,
    metrics: Metrics,
}

struct Current {
    config: Arc<ServerConfig>,
    tickets: Option<Arc<dyn ProducesTickets>>,
    client_ca: Vec<u8>,
}

impl Tls {
    /// Reads the listener's files. Blocks on the disk.
    pub(super) fn new(
        listener: &weir_config::Listener,
        settings: &ListenerTls,
        metrics: &Metrics,
        now: Millis,
    ) -> Result<Self, CertificateError> {
        let loaded = certificates::load(settings, now)?;
        let expires = loaded.expires;
        let tickets = new_tickets(settings)?;
        let current = Current::new(loaded, settings, listener.http2, tickets)?;
        let tls = Self {
            listener: listener.name.clone(),
            settings: settings.clone(),
            http2: listener.http2,
            current: ArcSwap::from_pointee(current),
            metrics: metrics.clone(),
        };
        tls.show_expiry(expires);
        Ok(tls)
    }

    /// How the next handshake is made.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// The time a handshake may take and how many may run at once.
    pub(super) fn settings(&self) -> &ListenerTls {
        &self.settings
    }

    /// Reads the files again and serves with them from the next handshake on; connections that stand are not touched.
    /// When the authorities have changed, tickets issued before are worth nothing: a resumed session shows no
    /// certificate.
    fn reload(&self, now: Millis) -> Result<(), CertificateError> {
        let loaded = certificates::load(&self.settings, now)?;
        let expires = loaded.expires;
        let known = self.current.load();
        let tickets =
            if known.client_ca == loaded.client_ca { known.tickets.clone() } else { new_tickets(&self.settings)? };
        self.current.store(Arc::new(Current::new(loaded, &self.settings, self.http2, tickets)?));
        self.show_expiry(expires);
        Ok(())
    }

    fn show_expiry(&self, expires: i64) {
        self.metrics.certificate_expiry.with_label_values(&[&self.listener]).set(expires);
    }
}

fn new_tickets(settings: &ListenerTls) -> Result<Option<Arc<dyn ProducesTickets>>, CertificateError> {
    if !settings.tickets {
        return Ok(None);
    }
    ring::Ticketer::new().map(Some).map_err(|error| CertificateError::Unusable(error.to_string()))
}

impl Current {
    fn new(
        loaded: Loaded,
        settings: &ListenerTls,
        http2: bool,
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Result<Self, CertificateError> {
        let versions: &[&rustls::SupportedProtocolVersion] = match settings.min_version {
            TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(loaded.key));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(|error| CertificateError::Unusable(error.to_string()))?
            .with_client_cert_verifier(loaded.verifier)
            .with_cert_resolver(resolver);
        config.alpn_protocols =
            if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        // Tickets carry the whole session, so any number of agents resumes without a table here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match &tickets {
            Some(tickets) => config.ticketer = Arc::clone(tickets),
            None => config.send_tls13_tickets = 0,
        }
        Ok(Self { config: Arc::new(config), tickets, client_ca: loaded.client_ca })
    }
}

/// The certificates of all listeners, to be read again when their files have changed.
#[derive(Clone, Default)]
pub struct Certificates(pub(super) Vec<Arc<Tls>>);

impl Certificates {
    /// Reads all files again. A listener whose files are broken keeps what it has and is named with what is wrong; the
    /// others serve with their new files. Blocks on the disk.
    pub fn reload(&self, now: Millis) -> Vec<(String, CertificateError)> {
        let failed = |tls: &Arc<Tls>| tls.reload(now).err().map(|error| (tls.listener.clone(), error));
        self.0.iter().filter_map(failed).collect()
    }
}
