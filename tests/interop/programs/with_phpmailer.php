<?php
// PHPMailer, of Debian's libphp-phpmailer: it composes the message. Pages do not send with PHP
// itself, whose mail() speaks SMTP on Windows only.
use PHPMailer\PHPMailer\PHPMailer;

require '/usr/share/php/libphp-phpmailer/autoload.php';

$job = json_decode(file_get_contents($argv[1]), true);
$mail = new PHPMailer(true);
$mail->isSMTP();
$mail->Host = 'localhost';
$mail->Port = $job['port'];
$mail->Hostname = 'php.example';
$mail->Timeout = 300;
$mail->SMTPAutoTLS = false;
if ($job['is_tls']) {
    $mail->SMTPSecure = PHPMailer::ENCRYPTION_STARTTLS;
    $mail->SMTPOptions = ['ssl' => ['cafile' => $job['ca_file']]];
}
if ($job['user']) {
    $mail->SMTPAuth = true;
    $mail->Username = $job['user'];
    $mail->Password = $job['password'];
}
$mail->CharSet = PHPMailer::CHARSET_UTF8;
$mail->Encoding = $job['is_8bit'] ? PHPMailer::ENCODING_8BIT : PHPMailer::ENCODING_7BIT;
try {
    $mail->setFrom($job['sender']);
    $mail->addAddress($job['recipient']);
    $mail->Subject = $job['subject'];
    $mail->Body = file_get_contents($job['body']);
    $mail->send();
} catch (Exception $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
