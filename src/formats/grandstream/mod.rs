//! Grandstream UCM, CloudUCM and GXW: what their formats have in common.
//!
//! Must never change an identity list: keys of rows already stored would change with it.

pub mod json;
pub mod legacy_csv;
mod legs;
pub mod page;
pub mod web_csv;
pub mod xml;

use crate::record::card::{Family, Link, Match};
use crate::record::cdr::{Direction, Disposition, TextColumn};
use crate::record::field::Field;

const SYSTEM: &str = "grandstream-ucm";

const MATCHED: &[Match] =
    &[Match::Text(Field::CallerNumber), Match::Time(Field::Start), Match::Text(Field::CalleeNumber)];

const EXACT: &[Field] = &[
    Field::UniqueId,
    Field::LinkedId,
    Field::Channel,
    Field::DstChannel,
    Field::DstChannelExtension,
    Field::LastApp,
    Field::Answer,
    Field::End,
    Field::Disposition,
    Field::ActionType,
];

const FAMILIES: &[Family] = &[family("grandstream", false), family("grandstream-minute", true)];

const fn family(name: &'static str, minute: bool) -> Family {
    Family {
        name,
        matched: MATCHED,
        sure: Some(Field::RecordId),
        instance: Some(Field::DstChannel),
        exact: EXACT,
        near: &[Field::Duration, Field::Talk],
        minute,
        events: &[],
    }
}

const LINKS: &[Link] = &[
    Link { kind: "uniqueid", column: TextColumn::UniqueId },
    Link { kind: "session", column: TextColumn::LinkedId },
];

const DISPOSITIONS: &[(&str, Disposition)] = &[
    ("ANSWERED", Disposition::Answered),
    ("NO ANSWER", Disposition::NoAnswer),
    ("BUSY", Disposition::Busy),
    ("FAILED", Disposition::Failed),
    ("CONGESTION", Disposition::Failed),
];

const DIRECTIONS: &[(&str, Direction)] = &[
    ("INBOUND", Direction::Inbound),
    ("OUTBOUND", Direction::Outbound),
    ("INTERNAL", Direction::Internal),
    // Trunk to trunk.
    ("EXTERNAL", Direction::Transit),
    // Firmware of 2013.
    ("EXT", Direction::Internal),
];

const CONTEXTS: &[(&str, Direction)] =
    &[("ext-did", Direction::Inbound), ("outbound-route", Direction::Outbound)];

const VOICEMAIL: &[(Field, &str)] = &[(Field::LastApp, "VOICEMAIL"), (Field::ActionType, "VM")];

const BRACKETED: &[(Field, &str, TextColumn)] =
    &[(Field::ActionType, "QUEUE", TextColumn::Queue), (Field::ActionType, "RINGGROUP", TextColumn::Queue)];

/// Names of the API's fields, JSON and CSV.
const API_HEADERS: &[(&str, Field)] = &[
    ("acctid", Field::RecordId),
    ("accountcode", Field::AccountCode),
    ("src", Field::CallerNumber),
    ("dst", Field::CalleeNumber),
    ("dcontext", Field::Context),
    ("clid", Field::CallerId),
    ("channel", Field::Channel),
    ("dstchannel", Field::DstChannel),
    ("lastapp", Field::LastApp),
    ("lastdata", Field::LastData),
    ("start", Field::Start),
    ("answer", Field::Answer),
    ("end", Field::End),
    ("duration", Field::Duration),
    ("billsec", Field::Talk),
    ("disposition", Field::Disposition),
    ("uniqueid", Field::UniqueId),
    ("userfield", Field::CallType),
    ("channelext", Field::ChannelExtension),
    ("dstchannelext", Field::DstChannelExtension),
    ("callername", Field::CallerName),
    ("recordfiles", Field::Recordings),
    ("dstanswer", Field::AnsweredBy),
    ("session", Field::LinkedId),
    ("actiontype", Field::ActionType),
    ("srctrunkname", Field::TrunkIn),
    ("dsttrunkname", Field::TrunkOut),
];
