//! `[http]`: where health and metrics can be asked for.

use super::keys;
use super::stanza::Stanza;
use std::net::{Ipv4Addr, SocketAddr};

const PORT: u16 = 8380;

/// On this host alone.
pub fn usual() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))
}

/// The stanza; `before` applies where it says nothing, or something wrong.
pub fn read(stanza: &mut Stanza<'_, '_>, before: Option<SocketAddr>) -> Option<SocketAddr> {
    let Some(text) = stanza.text(keys::LISTEN) else { return before };
    if text.value == "off" {
        return None;
    }
    let fault = match text.value.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => return Some(address),
        // There is no log-in: names of sources and how busy they are would be everybody's.
        Ok(_) => "is open to other hosts, and there is no log-in; write \"127.0.0.1:8380\" and let a proxy ask for one".to_owned(),
        Err(_) => format!("{:?} is no address with port; write \"127.0.0.1:8380\", or \"off\"", text.value),
    };
    stanza.faults.push(text.fault(fault));
    before
}
