//! What went wrong while a request was passed through, from pingora's words into ours.

use pingora::{Error, ErrorSource, ErrorType};
use weir_logic::Refusal;

use crate::upstream::OriginError;

/// Who failed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The core gave no usable answer.
    Core(OriginError),
    /// The request cannot be passed through.
    Request(Refusal),
    /// The agent has left.
    Gone,
}

impl Failure {
    /// Reads pingora's error.
    pub fn of(error: &Error) -> Self {
        use ErrorType as Type;
        if let Type::HTTPStatus(status) = error.etype() {
            return Self::Request(if *status == 413 { Refusal::BodyTooLarge } else { Refusal::Malformed });
        }
        match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, Type::ReadTimedout) => Self::Request(Refusal::BodyTimeout),
            (
                ErrorSource::Downstream,
                Type::ReadError | Type::WriteError | Type::WriteTimedout | Type::ConnectionClosed | Type::H2Error,
            ) => Self::Gone,
            (ErrorSource::Downstream, Type::InvalidHTTPHeader) => Self::Request(Refusal::Malformed),
            (ErrorSource::Downstream, _) => Self::Request(Refusal::BadBody),
            (
                _,
                Type::ConnectTimedout
                | Type::ConnectRefused
                | Type::ConnectNoRoute
                | Type::ConnectError
                | Type::TLSHandshakeFailure
                | Type::TLSHandshakeTimedout
                | Type::InvalidCert
                | Type::HandshakeError
                | Type::SocketError
                | Type::BindError,
            ) => Self::Core(OriginError::Connect),
            (_, Type::ReadTimedout | Type::WriteTimedout) => Self::Core(OriginError::Timeout),
            _ => Self::Core(OriginError::Broken),
        }
    }

    /// What the agent is told; `None` when nobody is there to be told.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Core(error) => Some(error.refusal()),
            Self::Request(refusal) => Some(refusal),
            Self::Gone => None,
        }
    }

    /// What the gate is told; `None` when the core is not to blame.
    pub fn origin(self) -> Option<OriginError> {
        match self {
            Self::Core(error) => Some(error),
            Self::Request(_) | Self::Gone => None,
        }
    }

    /// A word for people.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Core(OriginError::Connect) => "no connection to the core",
            Self::Core(OriginError::Timeout) => "the core did not answer in time",
            Self::Core(_) => "the connection to the core broke",
            Self::Request(_) | Self::Gone => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(etype: ErrorType, mark: impl Fn(&mut Error)) -> Failure {
        let mut error = Error::new(etype);
        mark(&mut error);
        Failure::of(&error)
    }

    #[test]
    fn a_failing_core_is_told_from_a_failing_agent() {
        let core = |etype| of(etype, |error| error.as_up());
        let agent = |etype| of(etype, |error| error.as_down());
        assert_eq!(core(ErrorType::ConnectRefused), Failure::Core(OriginError::Connect));
        assert_eq!(core(ErrorType::ReadTimedout), Failure::Core(OriginError::Timeout));
        assert_eq!(core(ErrorType::ConnectionClosed), Failure::Core(OriginError::Broken));
        assert_eq!(core(ErrorType::InvalidHTTPHeader), Failure::Core(OriginError::Broken));
        assert_eq!(agent(ErrorType::ConnectionClosed), Failure::Gone);
        assert_eq!(agent(ErrorType::ReadTimedout), Failure::Request(Refusal::BodyTimeout));
        assert_eq!(agent(ErrorType::HTTPStatus(413)), Failure::Request(Refusal::BodyTooLarge));
        assert_eq!(agent(ErrorType::Custom("bad chunk")), Failure::Request(Refusal::BadBody));
    }

    #[test]
    fn no_failure_of_the_core_is_shown_as_the_agents_fault() {
        for error in [OriginError::Connect, OriginError::Timeout, OriginError::Broken, OriginError::Full] {
            assert!(Failure::Core(error).refusal().is_some_and(|refusal| refusal.status() >= 500));
        }
    }
}
