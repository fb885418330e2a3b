<?php // 60 deliveries, each right after a refused body on the same handle: prints how many failed.
[, $url, $token, $event, $size] = $argv;
$curl = curl_init($url);

function post($curl, $token, $body) {
    $headers = ["X-LOX24-Token: $token", 'Content-Type: application/json'];
    curl_setopt_array($curl, [CURLOPT_RETURNTRANSFER => true, CURLOPT_HTTPHEADER => $headers, CURLOPT_POSTFIELDS => $body]);
    curl_exec($curl);
    return curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
}

for ($failed = $i = 0; $i < 60; $i++) {
    post($curl, 'guess', str_repeat(' ', $size));
    $failed += post($curl, $token, file_get_contents($event)) != 200;
}
echo $failed;
