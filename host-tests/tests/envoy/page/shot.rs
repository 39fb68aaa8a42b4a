//! Screenshots of few bytes.

use anyhow::{Result, bail, ensure};
use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Filter, Transformations};
use std::collections::BTreeMap;
use std::io::Cursor;

type Colour = [u8; 3];

/// The same picture with at most 256 colours, as a PNG. What is lost are shades at the edges of letters.
pub(super) fn small(shot: &[u8]) -> Result<Vec<u8>> {
    let mut decoder = Decoder::new(Cursor::new(shot));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let mut bytes = vec![0; reader.output_buffer_size().unwrap_or_default()];
    let picture = reader.next_frame(&mut bytes)?;
    let samples = picture.color_type.samples();
    ensure!(samples >= 3, "{:?}", picture.color_type);
    let pixels = bytes[..picture.buffer_size()].chunks_exact(samples);
    let pixels: Vec<Colour> = pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    // Bits of a channel that tell colours apart: the most with which they are few enough.
    for bits in (2..=6).rev() {
        let palette = palette(&pixels, bits);
        if palette.len() <= 256 {
            return written(picture.width, picture.height, &palette, &pixels, bits);
        }
    }
    bail!("more than 256 colours of two bits")
}

/// The first bits of each channel.
fn coarse(colour: Colour, bits: u32) -> Colour {
    colour.map(|channel| channel >> (8 - bits))
}

/// Of colours that are the same in their first bits, the most frequent one.
fn palette(pixels: &[Colour], bits: u32) -> BTreeMap<Colour, Colour> {
    let mut counts = BTreeMap::new();
    for pixel in pixels {
        *counts.entry(*pixel).or_insert(0_u32) += 1;
    }
    let mut palette = BTreeMap::new();
    let mut all: Vec<(Colour, u32)> = counts.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (colour, _) in all {
        palette.entry(coarse(colour, bits)).or_insert(colour);
    }
    palette
}

fn written(
    width: u32,
    height: u32,
    palette: &BTreeMap<Colour, Colour>,
    pixels: &[Colour],
    bits: u32,
) -> Result<Vec<u8>> {
    let indices: BTreeMap<Colour, u8> = palette.keys().copied().zip(0..=u8::MAX).collect();
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(palette.values().copied().collect::<Vec<Colour>>().concat());
    encoder.set_compression(Compression::High);
    encoder.set_filter(Filter::NoFilter);
    let mut writer = encoder.write_header()?;
    let bytes: Vec<u8> = pixels.iter().map(|pixel| indices[&coarse(*pixel, bits)]).collect();
    writer.write_image_data(&bytes)?;
    writer.finish()?;
    Ok(out)
}
