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

    /// All fields.
    pub const ALL: [Self; Self::COUNT] = [
        Self::RecordId,
        Self::UniqueId,
        Self::LinkedId,
        Self::SipCallId,
        Self::Start,
        Self::Answer,
        Self::End,
        Self::Duration,
        Self::Talk,
        Self::Ring,
        Self::Disposition,
        Self::CallType,
        Self::CallerNumber,
        Self::CallerName,
        Self::CallerId,
        Self::CalleeNumber,
        Self::CalleeName,
        Self::DialledNumber,
        Self::Did,
        Self::RedirectingNumber,
        Self::AnsweredBy,
        Self::Extension,
        Self::ChannelExtension,
        Self::DstChannelExtension,
        Self::UserName,
        Self::Location,
        Self::TrunkIn,
        Self::TrunkOut,
        Self::Queue,
        Self::Agent,
        Self::AccountCode,
        Self::Channel,
        Self::DstChannel,
        Self::Context,
        Self::LastApp,
        Self::LastData,
        Self::ActionType,
        Self::HangupText,
        Self::HangupCause,
        Self::ReleasedBy,
        Self::Cost,
        Self::Currency,
        Self::Codec,
        Self::Recordings,
        Self::RowKind,
    ];

    /// The name by which a person's configuration means it; the table's column where it ends in one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecordId => "record_id",
            Self::UniqueId => "unique_id",
            Self::LinkedId => "linked_id",
            Self::SipCallId => "sip_call_id",
            Self::Start => "start",
            Self::Answer => "answer",
            Self::End => "end",
            Self::Duration => "duration",
            Self::Talk => "talk",
            Self::Ring => "ring",
            Self::Disposition => "disposition",
            Self::CallType => "direction",
            Self::CallerNumber => "caller_number",
            Self::CallerName => "caller_name",
            Self::CallerId => "caller_id",
            Self::CalleeNumber => "callee_number",
            Self::CalleeName => "callee_name",
            Self::DialledNumber => "dialled_number",
            Self::Did => "did",
            Self::RedirectingNumber => "redirecting_number",
            Self::AnsweredBy => "answered_by",
            Self::Extension => "extension",
            Self::ChannelExtension => "channel_extension",
            Self::DstChannelExtension => "dst_channel_extension",
            Self::UserName => "user_name",
            Self::Location => "location",
            Self::TrunkIn => "trunk_in",
            Self::TrunkOut => "trunk_out",
            Self::Queue => "queue",
            Self::Agent => "agent",
            Self::AccountCode => "account_code",
            Self::Channel => "channel",
            Self::DstChannel => "dst_channel",
            Self::Context => "context",
            Self::LastApp => "last_app",
            Self::LastData => "last_data",
            Self::ActionType => "action_type",
            Self::HangupText => "hangup_text",
            Self::HangupCause => "hangup_cause",
            Self::ReleasedBy => "released_by",
            Self::Cost => "cost",
            Self::Currency => "currency",
            Self::Codec => "codec",
            Self::Recordings => "recordings",
            Self::RowKind => "row_kind",
        }
    }

    /// The field of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

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

#[cfg(test)]
mod tests {
    use super::Field;

    #[test]
    fn each_field_has_one_name() {
        for field in Field::ALL {
            assert_eq!(Field::by_name(field.name()), Some(field));
            if let Some(home) = field.home().filter(|_| field != Field::Start) {
                assert_eq!(field.name(), home.name());
            }
        }
    }
}
