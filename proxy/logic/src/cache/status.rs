//! What an answer says about where it comes from: `Cache-Status` (RFC 9211) and `Age` (RFC 9111, section 5.1).

use std::fmt::{self, Write as _};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

/// `Cache-Status`.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// One node's member of `Cache-Status`: `weir; hit; ttl=30`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Answered without asking the core.
    pub hit: bool,
    /// Why the core was asked: `uri-miss`, `stale` or `request`.
    pub fwd: Option<&'static str>,
    /// What the core answered.
    pub fwd_status: Option<u16>,
    /// Whether the core's answer was stored.
    pub stored: bool,
    /// Whether the request shared another one's fill.
    pub collapsed: bool,
    /// Seconds for which the answer is still fresh; below zero for a stale one.
    pub ttl: Option<i64>,
    /// What an operator should know besides; a token.
    pub detail: Option<&'static str>,
}

impl CacheStatus {
    /// Answered from what is stored.
    pub const fn hit(ttl: i64) -> Self {
        Self { hit: true, ttl: Some(ttl), ..Self::NONE }
    }

    /// Asked the core because nothing was stored.
    pub const fn miss() -> Self {
        Self { fwd: Some("uri-miss"), ..Self::NONE }
    }

    /// Asked the core because what was stored is stale.
    pub const fn stale() -> Self {
        Self { fwd: Some("stale"), ..Self::NONE }
    }

    /// Asked the core because what was stored would not do for the request.
    pub const fn request() -> Self {
        Self { fwd: Some("request"), ..Self::NONE }
    }

    /// Neither answered from what is stored nor asked the core.
    pub const NONE: Self =
        Self { hit: false, fwd: None, fwd_status: None, stored: false, collapsed: false, ttl: None, detail: None };

    /// The header's value.
    pub fn value(&self) -> HeaderValue {
        written(self).unwrap_or(NODE)
    }
}

const NODE: HeaderValue = HeaderValue::from_static("weir");

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weir")?;
        if self.hit {
            f.write_str("; hit")?;
        }
        if let Some(why) = self.fwd {
            f.write_str("; fwd=")?;
            f.write_str(why)?;
        }
        if let Some(status) = self.fwd_status {
            f.write_str("; fwd-status=")?;
            status.fmt(f)?;
        }
        if self.stored {
            f.write_str("; stored")?;
        }
        if self.collapsed {
            f.write_str("; collapsed")?;
        }
        if let Some(ttl) = self.ttl {
            f.write_str("; ttl=")?;
            ttl.fmt(f)?;
        }
        if let Some(detail) = self.detail {
            f.write_str("; detail=")?;
            f.write_str(detail)?;
        }
        Ok(())
    }
}

/// `Age`: whole seconds, rounded down.
pub fn age(age: Duration) -> HeaderValue {
    written(&age.as_secs()).unwrap_or(HeaderValue::from_static("2147483648"))
}

/// A short value, in one piece of memory of just its size: these two are written for each answer. `None` where it is longer than
/// [`LONGEST`].
fn written(value: &impl fmt::Display) -> Option<HeaderValue> {
    let mut line = Line { bytes: [0; LONGEST], length: 0 };
    write!(line, "{value}").ok()?;
    HeaderValue::from_bytes(&line.bytes[..line.length]).ok()
}

struct Line {
    bytes: [u8; LONGEST],
    length: usize,
}

/// Every member is at most a few words and numbers.
const LONGEST: usize = 160;

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_read_as_rfc_9211_writes_them() {
        assert_eq!(CacheStatus::hit(30).value(), "weir; hit; ttl=30");
        let miss = CacheStatus { fwd_status: Some(200), stored: true, ttl: Some(60), ..CacheStatus::miss() };
        assert_eq!(miss.value(), "weir; fwd=uri-miss; fwd-status=200; stored; ttl=60");
        let joined = CacheStatus { collapsed: true, ..CacheStatus::stale() };
        assert_eq!(joined.value(), "weir; fwd=stale; collapsed");
        let calm = CacheStatus { detail: Some("calm"), ..CacheStatus::NONE };
        assert_eq!(calm.value(), "weir; detail=calm");
    }
}
