#!/bin/sh
# The sample for Core AI against stand-ins, in the folder that run.sh mounts: stubs, sample, Readme.swift.
set -eux
options="-swift-version 5 -warnings-as-errors -I modules"
mkdir -p modules
for name in CoreGraphics ImageIO CoreAI SwiftUI PhotosUI; do
    swiftc $options -parse-as-library -emit-module -module-name "$name" \
        -emit-module-path "modules/$name.swiftmodule" "stubs/$name"/*.swift
done
swiftc $options -parse-as-library -emit-module -enable-testing -module-name MobileSAM \
    -emit-module-path modules/MobileSAM.swiftmodule sample/Sources/MobileSAM/*.swift
swiftc $options -parse-as-library -typecheck -module-name App sample/App/*.swift
swiftc $options -parse-as-library -typecheck -module-name MobileSAMTests sample/Tests/MobileSAMTests/*.swift
swiftc $options -parse-as-library -typecheck -module-name Readme Readme.swift
echo "type-checked"
