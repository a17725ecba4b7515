// Compares model.onnx of an exported folder with the answers of ONNX Runtime for Python, in cases.json beside it.
import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";

const folder = process.argv[2];
const cases = JSON.parse(readFileSync(`${folder}/cases.json`, "utf8"));
const session = await ort.InferenceSession.create(`${folder}/model.onnx`);
let largest = 0;

for (const { inputs, threshold, dims, wanted } of cases) {
  const feeds = { threshold: new ort.Tensor("float32", Float32Array.from(threshold), dims) };
  for (const [name, rows] of Object.entries(inputs)) {
    const shape = [rows.length, rows[0].length];
    feeds[name] = new ort.Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), shape);
  }
  const found = await session.run(feeds);
  for (const name of ["label", "exit"]) {
    if (found[name].data[0] !== wanted[name]) {
      throw new Error(`${name} is ${found[name].data[0]}, in Python ${wanted[name]}: ${JSON.stringify(inputs)}`);
    }
  }
  wanted.probabilities.forEach((value, index) => {
    largest = Math.max(largest, Math.abs(value - found.probabilities.data[index]));
  });
}
if (!(largest < 1e-4)) throw new Error(`probabilities differ by ${largest}`);
console.log(`${cases.length} answers as in Python`);
