//! Code page 437, in which names of a zip are without a word about them (APPENDIX D).

/// The characters of the bytes from 128 on.
const UPPER: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ\
    áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
    αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}\
";

/// Returns the text of bytes in this code page. Those below 128 are ASCII.
pub(super) fn decode(bytes: &[u8]) -> String {
    let upper = |byte: u8| UPPER.chars().nth(usize::from(byte & 0x7f)).unwrap_or('\u{fffd}');
    bytes
        .iter()
        .map(|byte| if byte.is_ascii() { char::from(*byte) } else { upper(*byte) })
        .collect()
}
