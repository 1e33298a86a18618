//! TLS of one listener: built once, swapped whole when its files change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::SingleCertAndKey;
use rustls::{CipherSuite, ServerConfig};
use weir_config::{ListenerTls, TlsCipher, TlsVersion};
use weir_logic::Millis;

use super::certificates::{self, CertificateError, Loaded, TicketKeys};
use super::tickets::keys::SharedKeys;
use super::tickets::{self, TICKETS_PER_HANDSHAKE, Tickets};
use super::trust::Trust;
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
    trust: Arc<Trust>,
    /// Who seals tickets; `None` without tickets.
    ticket_keys: Option<Arc<dyn ProducesTickets>>,
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
        let current = Current::new(loaded, settings, listener.http2, metrics, None)?;
        let tls = Self {
            listener: listener.name.clone(),
            settings: settings.clone(),
            http2: listener.http2,
            current: ArcSwap::from_pointee(current),
            metrics: metrics.clone(),
        };
        tls.report(expires);
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
    fn reload(&self, now: Millis) -> Result<(), CertificateError> {
        let loaded = certificates::load(&self.settings, now)?;
        let expires = loaded.expires;
        let known = self.current.load();
        let current = Current::new(loaded, &self.settings, self.http2, &self.metrics, Some(&known))?;
        self.current.store(Arc::new(current));
        self.report(expires);
        Ok(())
    }

    fn report(&self, expires: i64) {
        for warning in certificates::warnings(&self.settings) {
            tracing::warn!(listener = self.listener, "{warning}");
        }
        self.metrics.certificate_expiry.with_label_values(&[&self.listener]).set(expires);
    }
}

impl Current {
    fn new(
        loaded: Loaded,
        settings: &ListenerTls,
        http2: bool,
        metrics: &Metrics,
        known: Option<&Self>,
    ) -> Result<Self, CertificateError> {
        let ticket_keys = ticket_keys(&loaded, settings, known)?;
        let versions: &[&rustls::SupportedProtocolVersion] = match settings.min_version {
            TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(loaded.key));
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider(settings.cipher)))
            .with_protocol_versions(versions)
            .map_err(|error| CertificateError::Unusable(error.to_string()))?
            .with_client_cert_verifier(Arc::clone(&loaded.trust) as Arc<dyn ClientCertVerifier>)
            .with_cert_resolver(resolver);
        config.alpn_protocols =
            if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        config.ignore_client_order = settings.cipher != TlsCipher::Agent;
        // Tickets carry the whole session, so nothing is stored.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if let Some(keys) = &ticket_keys {
            let (keys, trust) = (Arc::clone(keys), Arc::clone(&loaded.trust));
            let refused = metrics.tickets_refused.clone();
            config.ticketer = Arc::new(Tickets::new(keys, trust, settings.ticket_lifetime, refused));
            config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        }
        Ok(Self { config: Arc::new(config), trust: loaded.trust, ticket_keys })
    }
}

/// The keys of the file, or those in memory: the ones known as long as the authorities are the same, because a ticket is
/// worth nothing under others. Tickets under keys of a file are bound to the authorities.
/// All suites, those of the cipher first.
fn provider(cipher: TlsCipher) -> CryptoProvider {
    use CipherSuite as Suite;
    let first: &[Suite] = match cipher {
        TlsCipher::Aes128Gcm => &[
            Suite::TLS13_AES_128_GCM_SHA256,
            Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        TlsCipher::Aes256Gcm => &[
            Suite::TLS13_AES_256_GCM_SHA384,
            Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ],
        TlsCipher::Chacha20Poly1305 => &[
            Suite::TLS13_CHACHA20_POLY1305_SHA256,
            Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        TlsCipher::Agent => &[],
    };
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !first.contains(&suite.suite()));
    provider
}

fn ticket_keys(
    loaded: &Loaded,
    settings: &ListenerTls,
    known: Option<&Current>,
) -> Result<Option<Arc<dyn ProducesTickets>>, CertificateError> {
    if !settings.tickets {
        return Ok(None);
    }
    if let Some(TicketKeys(secrets)) = &loaded.ticket_keys {
        return Ok(Some(Arc::new(SharedKeys::new(secrets, loaded.trust.digest()))));
    }
    match known.filter(|known| known.trust.digest() == loaded.trust.digest()) {
        Some(known) => Ok(known.ticket_keys.clone()),
        None => tickets::keys_in_memory(settings.ticket_lifetime)
            .map(Some)
            .map_err(|error| CertificateError::Unusable(error.to_string())),
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
