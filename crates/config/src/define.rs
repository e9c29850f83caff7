//! How a setting is written down: one entry says everything about it.

/// What is known of a setting without loading anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingInfo {
    /// The section it stands in.
    pub section: &'static str,
    /// Its key in the section.
    pub key: &'static str,
    /// The type's name, for people.
    pub kind: &'static str,
    /// Stands for the value in help texts.
    pub placeholder: &'static str,
    /// The default as it would be written; empty for "not set".
    pub default: &'static str,
    /// The smallest and the largest legal value, as they would be written.
    pub range: Option<(&'static str, &'static str)>,
    /// The flag of `ottla server` that sets it, without dashes.
    pub flag: Option<&'static str>,
    /// Never printed, and may be given as a file's name.
    pub secret: bool,
    pub(crate) doc: &'static str,
}

impl SettingInfo {
    /// `section.key`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// What it does: sentences, on one line.
    pub fn help(&self) -> String {
        self.doc.trim().to_owned()
    }
}

/// Writes a section: a struct of public fields, `read` and `settings`.
///
/// ```text
/// section! {
///     /// What the section is about.
///     pub struct Example in "example" {
///         /// What the setting does.
///         pause: Duration = "250ms", range "0ms" to "10s", flag "pause";
///     }
/// }
/// ```
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        pub struct $section:ident in $section_name:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:literal
                    $(, range $low:literal to $high:literal)?
                    $(, flag $flag:literal)?;
            )+
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl $section {
            pub(crate) const DOC: &'static str = concat!($($section_doc),+);

            pub(crate) const SETTINGS: &'static [$crate::SettingInfo] = &[
                $($crate::SettingInfo {
                    section: $section_name,
                    key: stringify!($field),
                    kind: <$type as $crate::value::Value>::KIND,
                    placeholder: <$type as $crate::value::Value>::PLACEHOLDER,
                    default: $default,
                    range: $crate::define::optional!($(($low, $high))?),
                    flag: $crate::define::optional!($($flag)?),
                    secret: <$type as $crate::value::Value>::SECRET,
                    doc: concat!($($doc),+),
                },)+
            ];

            pub(crate) fn read(reader: &mut $crate::layers::Reader<'_>) -> Self {
                let mut settings = Self::SETTINGS.iter();
                $(
                    let setting = settings.next().expect("one setting per field, in order");
                    let $field: $type = reader.read(setting);
                    $(reader.check_range(setting, &$field, $low, $high);)?
                )+
                Self { $($field),+ }
            }
        }
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

pub(crate) use {optional, section};
