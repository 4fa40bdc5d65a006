// Compares the outputs of the WebAssembly module, whose path is given, with those of the native program, bit for bit. It is
// instantiated without imports: it has no clock, no files, no threads and no random numbers.
import { readFile } from 'node:fs/promises';

// Those of tests/old_files.rs, and the first sequence alone.
const expected = [-0.76364684, -0.6272921, -0.759265, -0.63113105, -0.75871384, -0.63161623, -0.76364684, -0.6272921];

const bytes = await readFile(process.argv[2]);
const module = await WebAssembly.compile(bytes);
const imports = WebAssembly.Module.imports(module);
if (imports.length > 0) {
  throw new Error(`found the imports ${JSON.stringify(imports)}, expected none`);
}
const { output } = (await WebAssembly.instantiate(module)).exports;
const bits = new Uint32Array(new Float32Array(expected).buffer);
bits.forEach((bits, i) => {
  if (output(i) >>> 0 !== bits) {
    throw new Error(`output ${i}: found the bits ${output(i) >>> 0}, expected ${bits}`);
  }
});
console.log(`${bits.length} outputs, the same bits; ${bytes.length} bytes`);
