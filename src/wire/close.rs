//! Why a connection or a chunk stream ended, as a number that travels in QUIC's close, `STOP_SENDING` and
//! `RESET_STREAM` frames. Numbers are never reused; one that this version does not know is kept, never refused.

use std::fmt;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A number that this version does not know, as a newer one may send it.
            Unknown(u64),
        }

        impl $name {
            /// Every code that this version knows, in the order of their numbers.
            pub const KNOWN: &[$name] = &[$($name::$variant),*];
        }

        impl From<u64> for $name {
            fn from(number: u64) -> $name {
                match number {
                    $($number => $name::$variant,)*
                    other => $name::Unknown(other),
                }
            }
        }

        impl From<$name> for u64 {
            fn from(code: $name) -> u64 {
                match code {
                    $($name::$variant => $number,)*
                    $name::Unknown(number) => number,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($name::$variant => f.write_str($text),)*
                    $name::Unknown(number) => write!(f, "a reason that only a newer bailiwick knows (code {number})"),
                }
            }
        }
    };
}

codes! {
    /// Why one side closed a connection.
    CloseCode {
        /// A clean end; also what quinn sends for a connection that is simply let go.
        Done = 0 => "it was closed cleanly",
        /// The peer sent what the protocol does not allow.
        Protocol = 1 => "the protocol was not followed",
        /// The two have no protocol version in common.
        Version = 2 => "the two have no protocol version in common; update the older of the two",
        /// A newer connection of the same device took this one's place.
        Replaced = 3 => "a newer connection of the same device took its place",
        /// The queue of control frames towards the peer overflowed.
        TooSlow = 4 => "the news were not read fast enough; whoever connects again catches up",
        /// The device was disapproved, or has left.
        Expelled = 5 => "the device is no longer a member of the group",
        /// Too many devices that are not members are connected, or this one stayed too long.
        StrangerLimit = 6 => "too many devices that are not members yet, or one that stayed too long",
        /// The device is not admitted to what it asked for.
        NotAdmitted = 7 => "the device is not admitted here",
        /// The process is shutting down.
        ShuttingDown = 8 => "the other side is shutting down",
        /// A quota is used up.
        Full = 9 => "the other side is full: a quota is used up",
        /// The closing side failed in itself.
        Internal = 10 => "the other side failed internally",
        /// The peer was expected to answer, and was not heard for too long.
        Unheard = 11 => "nothing was heard for too long",
    }
}

codes! {
    /// Why one side ended a chunk stream before its last byte.
    StreamCode {
        /// The receiver does not want the chunk (any more); also what quinn sends for a stream that is simply let go.
        NotWanted = 0 => "the chunk is not wanted any more",
        /// The request was cancelled.
        Cancelled = 1 => "the request was cancelled",
        /// The file changed at its owner.
        Changed = 2 => "the file changed at its owner",
        /// No byte came for too long.
        Stalled = 3 => "no byte came for too long",
        /// The relay dropped the chunk from its cache while it was still being read.
        CacheExpired = 4 => "the relay dropped the chunk from its cache; ask again",
        /// The sender could not read or pass on the chunk.
        Failed = 5 => "the sender could not go on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_convert_both_ways() {
        for (number, code) in CloseCode::KNOWN.iter().enumerate() {
            assert_eq!(u64::from(*code), number as u64);
            assert_eq!(CloseCode::from(number as u64), *code);
        }
        for (number, code) in StreamCode::KNOWN.iter().enumerate() {
            assert_eq!(u64::from(*code), number as u64);
            assert_eq!(StreamCode::from(number as u64), *code);
        }
    }

    #[test]
    fn an_unknown_number_is_kept() {
        assert_eq!(CloseCode::from(4711), CloseCode::Unknown(4711));
        assert_eq!(u64::from(StreamCode::from(4711)), 4711);
    }
}
