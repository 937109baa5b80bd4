//! Asterisk `cdr_custom` as it is shipped: 19 columns, the caller id first. The calls are those of `Master.csv`, and so is
//! their identity.
//!
//! Must never read a mapping that a site wrote itself: what stands where is only in its configuration.

use super::asterisk::{AMA_WORDS, CONTEXTS, DISPOSITIONS, FAMILIES, LINKS};
use super::dates::{epoch_of, is_time};
use super::sheet::{Order, Sheet, is_length, is_time_or_blank, none_skipped};
use crate::record::card::{Card, Evidence, Told, Topic};
use crate::record::document::{LengthUnit, ZoneRule};
use crate::record::field::Field;
use std::sync::OnceLock;

static CARD: Card = Card {
    id: "asterisk-cdr-custom",
    system: "asterisk",
    title: "Asterisk cdr_custom (19 columns)",
    version: 1,
    evidence: Evidence::Seen,
    versions: &[
        ("19 columns", Evidence::Seen),
        ("19 columns, duration and billsec with fractions", Evidence::Documented),
    ],
    notes: &[
        (Topic::Specification, "cdr_custom.conf as Asterisk ships it, [mappings]"),
        (
            Topic::Zone,
            "wall clock of the PBX, or UTC where its cdr.conf says usegmtime: then say time_zone in the source",
        ),
        (
            Topic::Identity,
            "that of cdr_csv, so that a site that writes both has each call once: uniqueid, start modulo 15 minutes and \
             dstchannel; sequence is unique for each row",
        ),
        (
            Topic::Legs,
            "a row for each called channel; linkedid is not in the shipped mapping, so that only uniqueid joins legs",
        ),
        (
            Topic::Quirk,
            "a mapping of your own, with other columns, separators or JSON, is described in a [[format]]",
        ),
        (
            Topic::Sending,
            "uncomment Master.csv in cdr_custom.conf; follow log/cdr-custom/Master.csv with mode = \"append\"",
        ),
    ],
    outcome: Told::Word,
    fidelity: 75,
    headers: &[
        ("clid", Field::CallerId),
        ("src", Field::CallerNumber),
        ("dst", Field::CalleeNumber),
        ("dcontext", Field::Context),
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
        ("accountcode", Field::AccountCode),
        ("uniqueid", Field::UniqueId),
        ("sequence", Field::RecordId),
    ],
    families: FAMILIES,
    links: LINKS,
    dispositions: DISPOSITIONS,
    directions: &[],
    contexts: CONTEXTS,
    voicemail: &[(Field::LastApp, "VOICEMAIL")],
    bracketed: &[],
    recording_separator: ',',
    epoch_in: Some(Field::UniqueId),
};

/// The shipped mapping.
pub(super) static MASTER: &Sheet = &MASTER_SHEET;

static MASTER_SHEET: Sheet = Sheet {
    card: &CARD,
    separators: &[',', ';', '\t'],
    quote: Some('"'),
    header: &[],
    orders: &[Order {
        name: "19 columns",
        columns: &[
            "clid",
            "src",
            "dst",
            "dcontext",
            "channel",
            "dstchannel",
            "lastapp",
            "lastdata",
            "start",
            "answer",
            "end",
            "duration",
            "billsec",
            "disposition",
            "amaflags",
            "accountcode",
            "uniqueid",
            "userfield",
            "sequence",
        ],
    }],
    checks: &[
        // Every channel is named TECHNOLOGY/resource.
        ("channel", |text| text.contains('/')),
        ("dstchannel", |text| text.is_empty() || text.contains('/')),
        ("start", is_time),
        ("answer", is_time_or_blank),
        ("end", is_time_or_blank),
        ("duration", |text| !text.is_empty() && is_length(text)),
        ("billsec", |text| !text.is_empty() && is_length(text)),
        ("disposition", |text| DISPOSITIONS.iter().any(|(word, _)| word.eq_ignore_ascii_case(text))),
        ("amaflags", |text| AMA_WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))),
        ("uniqueid", |text| epoch_of(text).is_some()),
        ("sequence", |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())),
    ],
    zone: ZoneRule::Origin,
    times: &[],
    lengths: LengthUnit::Seconds,
    clean: None,
    made: &[],
    skip: none_skipped,
    advice: "use the shipped mapping, or describe yours in a [[format]]",
    known: OnceLock::new(),
};
