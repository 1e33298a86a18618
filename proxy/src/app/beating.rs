//! A pingora service whose runtime shows that it turns.

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;

use super::lifecycle::Heartbeat;
use crate::task;

/// A service with a heartbeat on its own runtime.
pub(super) struct Beating<S> {
    service: S,
    heartbeat: Heartbeat,
}

impl<S> Beating<S> {
    /// The service, beating once it has been started.
    pub(super) fn new(service: S, heartbeat: Heartbeat) -> Self {
        Self { service, heartbeat }
    }
}

#[async_trait]
impl<S: Service> Service for Beating<S> {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        drop(task::spawn("heartbeat", self.heartbeat.clone().beat()));
        self.service.start_service(fds, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}
