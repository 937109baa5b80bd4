//! The canonical fields that a format maps its columns to: text exactly as the PBX wrote it.
//!
//! A field says what a column means, never how it is spelt or which table column it ends in; [`Field::home`] names
//! the one table column that keeps the text unchanged, if there is one.

use super::cdr::TextColumn;

/// What a source column means. The text of a field is always as written; typed values come from `normalise`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Field {
    /// Row id that the device gives each leg (Grandstream `AcctId`, Asterisk `sequence`).
    RecordId,
    /// Id of the channel (Asterisk and Grandstream `uniqueid`): shared by several legs.
    UniqueId,
    /// Id that joins the legs of a call (Asterisk `linkedid`, Grandstream `session`).
    LinkedId,
    /// SIP Call-ID.
    SipCallId,
    /// Start of the leg, wall clock of the PBX unless the dialect says otherwise.
    Start,
    /// Answer time; some devices fill it for unanswered legs too.
    Answer,
    /// End of the leg.
    End,
    /// Seconds from start to end.
    Duration,
    /// Seconds of talk (`billsec`).
    Talk,
    /// Seconds of ringing.
    Ring,
    /// Outcome word (`disposition`, "Call Status").
    Disposition,
    /// Direction word ("Call Type", Grandstream `userfield`).
    CallType,
    /// Number of the calling party.
    CallerNumber,
    /// Display name of the calling party.
    CallerName,
    /// `"Name" <number>` in one text.
    CallerId,
    /// Number of the called party of this leg.
    CalleeNumber,
    /// Display name of the called party.
    CalleeName,
    /// Number that the caller dialled.
    DialledNumber,
    /// DID on which the call came in.
    Did,
    /// Number that forwarded the call.
    RedirectingNumber,
    /// Who answered (an extension, group, IVR or slot).
    AnsweredBy,
    /// Extension of the user of this leg.
    Extension,
    /// Extension or trunk behind the calling channel.
    ChannelExtension,
    /// Extension or trunk behind the called channel.
    DstChannelExtension,
    /// Name of the user.
    UserName,
    /// Site.
    Location,
    /// Trunk through which the call came in.
    TrunkIn,
    /// Trunk through which the call went out.
    TrunkOut,
    /// Queue or group.
    Queue,
    /// Agent.
    Agent,
    /// Account or billing code.
    AccountCode,
    /// Calling channel.
    Channel,
    /// Called channel. Its blank is a value where the column exists.
    DstChannel,
    /// Dial-plan context.
    Context,
    /// Last dial-plan application.
    LastApp,
    /// Arguments of the last application.
    LastData,
    /// Kind of action (Grandstream `action_type`).
    ActionType,
    /// Hang-up cause in words.
    HangupText,
    /// Q.850 cause number.
    HangupCause,
    /// Which side hung up.
    ReleasedBy,
    /// Cost as written.
    Cost,
    /// Currency of the cost.
    Currency,
    /// Codec.
    Codec,
    /// Names of recordings.
    Recordings,
    /// What kind of row this is (Grandstream `cdr` column: `main_cdr`, `sub_cdr`).
    RowKind,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = Self::RowKind as usize + 1;

    /// The table column that keeps this field's text as written, if one does.
    pub const fn home(self) -> Option<TextColumn> {
        Some(match self {
            Self::UniqueId => TextColumn::UniqueId,
            Self::LinkedId => TextColumn::LinkedId,
            Self::SipCallId => TextColumn::SipCallId,
            Self::Start => TextColumn::StartedLocal,
            Self::CallerNumber => TextColumn::CallerNumber,
            Self::CallerName => TextColumn::CallerName,
            Self::CalleeNumber => TextColumn::CalleeNumber,
            Self::CalleeName => TextColumn::CalleeName,
            Self::DialledNumber => TextColumn::DialledNumber,
            Self::Did => TextColumn::Did,
            Self::RedirectingNumber => TextColumn::RedirectingNumber,
            Self::AnsweredBy => TextColumn::AnsweredBy,
            Self::Extension => TextColumn::Extension,
            Self::UserName => TextColumn::UserName,
            Self::Location => TextColumn::Location,
            Self::TrunkIn => TextColumn::TrunkIn,
            Self::TrunkOut => TextColumn::TrunkOut,
            Self::Queue => TextColumn::Queue,
            Self::Agent => TextColumn::Agent,
            Self::AccountCode => TextColumn::AccountCode,
            Self::Channel => TextColumn::Channel,
            Self::DstChannel => TextColumn::DstChannel,
            Self::Context => TextColumn::Context,
            Self::HangupText => TextColumn::HangupText,
            Self::Cost => TextColumn::Cost,
            Self::Currency => TextColumn::Currency,
            Self::Codec => TextColumn::Codec,
            _ => return None,
        })
    }

    /// The member of `extra` that takes the text, for fields that no column takes and no typed column is made from.
    /// The same name in every format, so that one query reads them all; unmapped columns keep their source header.
    pub const fn extra_name(self) -> Option<&'static str> {
        Some(match self {
            Self::RecordId => "record_id",
            Self::LastApp => "last_app",
            Self::LastData => "last_data",
            Self::ActionType => "action_type",
            Self::ChannelExtension => "channel_extension",
            Self::DstChannelExtension => "dst_channel_extension",
            _ => return None,
        })
    }
}
